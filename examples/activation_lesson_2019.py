"""Why does training fail? Looked for with hooks, from hand-made statistics to dead units, as the fast.ai course of 2019
does in its lesson 10.

usage: python examples/activation_lesson_2019.py [OUT]      (figures; default results/lesson_2019)

A network of four convolutions is trained at a high learning rate. What its layers give shrinks, units die, and it
recognises next to nothing. Another initialisation and an activation that leaks mend that, at the same rate.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import torch
from lesson_digits import (
    Data,
    Learner,
    batches,
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
    HISTOGRAM_2019,
    HISTOGRAM_2019_POSITIVE,
    ActivationStats,
    GeneralRelu,
    Hook,
    Hooks,
    Lambda,
    SequentialModel,
    append_stats,
    set_seed,
)
from deepjuice.hooks.charts import color_dim, dead_chart, plot_stats

LEARNING_RATE = 0.6
WIDTHS = (1, 8, 16, 32, 32)


def get_cnn_layers(act=nn.ReLU) -> list[nn.Module]:
    """Return four convolutions, their mean over places, and a linear layer."""
    flatten = Lambda(partial(torch.flatten, start_dim=1))
    return [*conv_layers(WIDTHS, act), nn.AdaptiveAvgPool2d(1), flatten, nn.Linear(WIDTHS[-1], 10)]


def get_cnn_model(seed: int, act=nn.ReLU) -> nn.Sequential:
    """Return the network as torch initialises it."""
    set_seed(seed)
    return nn.Sequential(*get_cnn_layers(act))


def by_hand(data: Data, seed: int) -> SequentialModel:
    """Train a model that writes its own statistics; only models that are written for it can."""
    set_seed(seed)
    model = SequentialModel(*get_cnn_layers())
    Learner(model, data, LEARNING_RATE).fit()
    return model


def with_hooks(model: nn.Sequential, data: Data, **options) -> Hooks:
    """Train a model with `Hooks`, which are gone when the block ends and keep their statistics."""
    with Hooks(model, partial(append_stats, **options)) as hooks:
        Learner(model, data, LEARNING_RATE).fit()
    return hooks


def first_batch_agrees(hook: Hook, data: Data, seed: int) -> bool:
    """Say whether the first column of a layer's histograms is what the untrained layer makes of the first batch."""
    layer, batch = get_cnn_model(seed)[0], batches(torch.Generator().manual_seed(0))[0]
    with Hook(layer, partial(append_stats, histogram=hook.histogram)) as again:
        layer(data.x_train[batch])
    return torch.equal(again.stats[2][0], hook.stats[2][0])


def main(out_dir: str | Path = "results/lesson_2019", seed: int = 1) -> dict[str, dict[str, float]]:
    """Run the lesson, save its figures, and return for each network what was measured at the end of training."""
    data = get_data()
    model = by_hand(data, seed)
    save(lines("statistics by hand", ["means", "stds"], model.act_means, model.act_stds), out_dir, "by_hand")
    save(
        lines("torch's hooks", ["means"], with_torchs_hooks(get_cnn_model(seed), data, LEARNING_RATE)),
        out_dir,
        "torch_hooks",
    )

    hooks = with_hooks(get_cnn_model(seed), data, histogram=HISTOGRAM_2019_POSITIVE)
    first_ten = [[row[:10] for row in (hook.stats[i] for hook in hooks)] for i in (0, 1)]
    save(lines("the first ten batches", ["means", "stds"], *first_ten), out_dir, "first_batches")
    save(plot_stats(hooks), out_dir, "stats")
    print(
        "histograms of 40 bins and",
        len(hooks[0].stats[2]),
        "calls, the last in validation; the first is that of the first batch:",
        end=" ",
    )
    print(first_batch_agrees(hooks[0], data, seed))
    save(color_dim(hooks[:4]), out_dir, "histograms")

    found, stats = {}, {}
    for name, act in (("as before", nn.ReLU), ("mended", general_relu)):
        model = get_cnn_model(seed, act)
        if name == "mended":
            init_cnn(model)
        stats[name] = ActivationStats((nn.ReLU, GeneralRelu), HISTOGRAM_2019)
        found[name] = measured(Learner(model, data, LEARNING_RATE, [stats[name]]).fit(), stats[name])
        save(color_dim(stats[name]), out_dir, f"histograms_{name.replace(' ', '_')}")
        save(dead_chart(stats[name]), out_dir, f"near_zero_{name.replace(' ', '_')}")
    save(dead_shares("dead units", stats), out_dir, "dead_units")
    return found


if __name__ == "__main__":
    for name, numbers in main(*sys.argv[1:2]).items():
        print(f"{name:10}", "  ".join(f"{key} {value:.3f}" for key, value in numbers.items()))
