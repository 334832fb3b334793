"""The oracle of extraction: a forward hook a module that clones its output, one list entry a call."""

import torch


def by_plain_hooks(model, x):
    """Return (path, output) of every call in the order of completion; the first item of a tuple stands for it."""
    found, handles = [], []

    def hook(path):
        def clone(module, inputs, output):
            output = output[0] if isinstance(output, tuple) else output
            found.append((path, output.clone() if isinstance(output, torch.Tensor) else output))

        return clone

    for path, module in model.named_modules():
        handles.append(module.register_forward_hook(hook(path)))
    with torch.no_grad():
        model.eval()(x)
    for handle in handles:
        handle.remove()
    return found


def by_call(model, batches):
    """Return (path, number of the call) -> output of all batches, for outputs with a row an input."""
    runs = []
    for batch in batches:
        calls = {}
        for path, output in by_plain_hooks(model, batch):
            number = sum(known == path for known, _ in calls)
            calls[path, number] = output
        runs.append(calls)
    return {
        call: torch.cat([run[call] for run in runs])
        for call, output in runs[0].items()
        if isinstance(output, torch.Tensor) and output.ndim > 1 and len(output) == len(batches[0])
    }
