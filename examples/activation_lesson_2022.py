"""Activation statistics, from hand-made lists to `ActivationStats`, as the fast.ai course of 2022 builds them up.

usage: python examples/activation_lesson_2022.py [OUT]      (figures; default results/lesson_2022)

A convolutional network is trained at the course's learning rate of 0.6, and learns nothing: the statistics of its
layers tell why. Another initialisation, a leaky activation and half the rate let it learn. At 0.6 the mended
network fails too, but of the opposite: its activations are large, and so are its steps.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lesson_digits import (
    Data,
    Learner,
    conv,
    conv_layers,
    dead_shares,
    general_relu,
    get_data,
    init_cnn,
    lines,
    measured,
    save,
    with_torchs_hooks,
)
from torch import nn

from deepjuice.hooks import (
    ActivationStats,
    GeneralRelu,
    Hook,
    Hooks,
    HooksCallback,
    SequentialModel,
    append_stats,
    set_seed,
)
from deepjuice.hooks.charts import color_dim, dead_chart

HIGH_RATE, LOW_RATE = 0.6, 0.3


def cnn_layers(act=nn.ReLU) -> list[nn.Module]:
    """Return the layers: 14 x 14, 7 x 7, 4 x 4, 2 x 2 and 1 x 1 places."""
    return [*conv_layers((1, 8, 16, 32, 64), act), conv(64, 10), nn.Flatten()]


def get_model(seed: int, act=nn.ReLU) -> nn.Sequential:
    """Return the network as torch initialises it."""
    set_seed(seed)
    return nn.Sequential(*cnn_layers(act))


def by_hand(data: Data, seed: int) -> SequentialModel:
    """Train a model that writes its own statistics; only models that are written for it can."""
    set_seed(seed)
    model = SequentialModel(*cnn_layers())
    Learner(model, data, HIGH_RATE).fit()
    return model


def with_single_hooks(data: Data, seed: int) -> list[Hook]:
    """Train with one `Hook` a layer."""
    model = get_model(seed)
    hooks = [Hook(layer, append_stats) for layer in model[:5]]
    Learner(model, data, HIGH_RATE).fit()
    for hook in hooks:
        hook.remove()
    return hooks


def with_hooks(data: Data, seed: int) -> Hooks:
    """Train within a block of `Hooks`."""
    model = get_model(seed)
    with Hooks(model, append_stats) as hooks:
        Learner(model, data, HIGH_RATE).fit()
    return hooks


def with_callback(data: Data, seed: int) -> HooksCallback:
    """Train with a callback that finds the convolutions itself."""
    callback = HooksCallback(append_stats, mod_filter=nn.Conv2d)
    Learner(get_model(seed), data, HIGH_RATE, [callback]).fit()
    return callback


def with_stats(model: nn.Module, data: Data, lr: float) -> tuple[Learner, ActivationStats, ActivationStats]:
    """Train with statistics of the convolutions, and of what comes out of the activations: there units are dead."""
    convs, acts = ActivationStats(nn.Conv2d), ActivationStats((nn.ReLU, GeneralRelu))
    return Learner(model, data, lr, [convs, acts]).fit(), convs, acts


def main(out_dir: str | Path = "results/lesson_2022", seed: int = 1) -> dict[str, dict[str, float]]:
    """Run the lesson, save its figures, and return for each network what was measured at the end of training."""
    data = get_data()
    model = by_hand(data, seed)
    save(lines("statistics by hand", ["means", "stds"], model.act_means, model.act_stds), out_dir, "by_hand")
    save(lines("torch's hooks", ["means"], with_torchs_hooks(get_model(seed), data, HIGH_RATE)), out_dir, "torch_hooks")
    for name, hooks in (("hook", with_single_hooks(data, seed)), ("hooks", with_hooks(data, seed))):
        save(lines(name, ["means", "stds"], *[[hook.stats[i] for hook in hooks] for i in (0, 1)]), out_dir, name)
    callback = with_callback(data, seed)
    save(color_dim(callback), out_dir, "histograms")
    save(dead_chart(callback), out_dir, "near_zero")

    found, dead = {}, {}
    for name, lr, act in (
        ("as before, 0.6", HIGH_RATE, nn.ReLU),
        ("as before, 0.3", LOW_RATE, nn.ReLU),
        ("mended, 0.6", HIGH_RATE, general_relu),
        ("mended, 0.3", LOW_RATE, general_relu),
    ):
        model = get_model(seed, act)
        if act is general_relu:
            init_cnn(model)
        learner, convs, dead[name] = with_stats(model, data, lr)
        found[name] = measured(learner, dead[name])
        stem = name.replace(", ", "_").replace(" ", "_")
        for kind, chart in (("color_dim", convs.color_dim), ("dead", convs.dead_chart), ("stats", convs.plot_stats)):
            save(chart(), out_dir, f"{kind}_{stem}")
    save(dead_shares("dead units", dead), out_dir, "dead_units")
    return found


if __name__ == "__main__":
    for name, numbers in main(*sys.argv[1:2]).items():
        print(f"{name:16}", "  ".join(f"{key} {value:.3f}" for key, value in numbers.items()))
