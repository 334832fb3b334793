"""What both lessons on activations share: handwritten digits, small convolutional networks, and a learner.

The digits are scikit-learn's, 8 x 8 pixels, enlarged to the 28 x 28 of the courses' data; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import matplotlib.axes
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from deepjuice.hooks import ActivationStats, GeneralRelu
from deepjuice.hooks.charts import Chart
from juicyfruits.files import atomic_path

N_TRAIN = 1500
BATCH_SIZE = 128
N_EPOCHS = 5


class Data(NamedTuple):
    """Pictures (n, 1, 28, 28), float32, and their classes (n,)."""

    x_train: Tensor
    y_train: Tensor
    x_valid: Tensor
    y_valid: Tensor


def get_data(seed: int = 0) -> Data:
    """Return 1,500 digits to train on and 297 to validate, with mean 0 and standard deviation 1 in training."""
    pixels, classes = load_digits(return_X_y=True)
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(seed))
    x = torch.as_tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8)[order]
    x = F.interpolate(x, size=(28, 28), mode="bilinear")
    x = (x - x[:N_TRAIN].mean()) / x[:N_TRAIN].std()
    y = torch.as_tensor(classes)[order]
    return Data(x[:N_TRAIN], y[:N_TRAIN], x[N_TRAIN:], y[N_TRAIN:])


def conv(n_in: int, n_out: int, size: int = 3, act: nn.Module | None = None) -> nn.Module:
    """Return a convolution that halves the picture, with an activation after it if there is one."""
    layer = nn.Conv2d(n_in, n_out, size, stride=2, padding=size // 2)
    return nn.Sequential(layer, act) if act is not None else layer


def conv_layers(widths: Sequence[int], act: Callable[[], nn.Module]) -> list[nn.Module]:
    """Return convolutions with activations, from each width to the next.

    The first has windows of 5 x 5, since the 9 pixels of a smaller one hold too little to make 8 channels of.
    """
    sizes = [5] + [3] * (len(widths) - 2)
    return [conv(n_in, n_out, size, act()) for (n_in, n_out), size in zip(pairwise(widths), sizes, strict=True)]


def init_cnn(model: nn.Module) -> None:
    """Draw the weights of the convolutions with an activation after Kaiming He, for a leak of 0.1; no bias."""
    for layer in model:
        if isinstance(layer, nn.Sequential):
            nn.init.kaiming_normal_(layer[0].weight, a=0.1)
            nn.init.zeros_(layer[0].bias)


def general_relu() -> GeneralRelu:
    """Return the leaky activation of the courses, whose output has a mean near zero."""
    return GeneralRelu(leak=0.1, sub=0.4, maxv=6.0)


def batches(generator: torch.Generator, batch_size: int = BATCH_SIZE) -> Sequence[Tensor]:
    """Return the places of the training digits, shuffled, batch by batch."""
    return torch.randperm(N_TRAIN, generator=generator).split(batch_size)


class Learner:
    """Train a model by stochastic gradient descent, and tell callbacks before and after."""

    def __init__(self, model: nn.Module, data: Data, lr: float, cbs: Sequence = (), seed: int = 0):
        self.model, self.data, self.lr, self.cbs, self.seed = model, data, lr, cbs, seed
        self.accuracy = float("nan")

    def fit(self, n_epochs: int = N_EPOCHS, batch_size: int = BATCH_SIZE) -> Learner:
        """Train, and set `accuracy`, the share of the validation digits that are recognised."""
        optimizer = torch.optim.SGD(self.model.parameters(), self.lr)
        generator = torch.Generator().manual_seed(self.seed)
        for cb in self.cbs:
            cb.before_fit(self)
        try:
            for _ in tqdm(range(n_epochs), desc=f"training at {self.lr}", unit="epoch", leave=False):
                self.model.train()
                for batch in batches(generator, batch_size):
                    loss = F.cross_entropy(self.model(self.data.x_train[batch]), self.data.y_train[batch])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
        finally:
            for cb in self.cbs:
                cb.after_fit(self)
        self.model.eval()
        with torch.no_grad():
            found = self.model(self.data.x_valid).argmax(1)
        self.accuracy = (found == self.data.y_valid).float().mean().item()
        return self


def with_torchs_hooks(model: nn.Sequential, data: Data, lr: float) -> list[list[float]]:
    """Train with torch's own hooks and return means by layer and batch; each handle is kept, and removed in the end."""
    means = [[] for _ in model]

    def append_mean(i: int, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        means[i].append(output.detach().mean().item())

    handles = [layer.register_forward_hook(partial(append_mean, i)) for i, layer in enumerate(model)]
    Learner(model, data, lr).fit()
    for handle in handles:
        handle.remove()
    return means


def measured(learner: Learner, stats: ActivationStats) -> dict[str, float]:
    """Return the accuracy, and of the second half of training the worst layer's mean of three statistics.

    These are the largest share of dead units, the largest share of values near zero, and the smallest standard
    deviation.
    """
    table = stats.table()
    half = table[table.batch > table.batch.max() / 2].groupby("layer")
    worst = {"dead": half.dead.mean().max(), "near_zero": half.near_zero.mean().max(), "std": half["std"].mean().min()}
    return {"accuracy": learner.accuracy, **worst}


def lines(title: str, names: Sequence[str], *values: Sequence) -> Chart:
    """Draw a panel for each of `values`, a sequence of lines over batches with one legend."""
    chart = Chart(figsize=(5 * len(names), 4), layout="constrained")
    panels: list[matplotlib.axes.Axes] = list(chart.subplots(1, len(names), squeeze=False)[0])
    for panel, name, rows in zip(panels, names, values, strict=True):
        for i, row in enumerate(rows):
            panel.plot([float(number) for number in row], label=str(i))
        panel.set_title(name)
        panel.set_xlabel("batch")
    panels[-1].legend(title="layer")
    chart.suptitle(title)
    return chart


def dead_shares(title: str, stats: dict[str, ActivationStats]) -> Chart:
    """Draw the share of dead units over batches, a panel for each training."""
    chart = lines(title, list(stats), *[[hook.dead for hook in each] for each in stats.values()])
    for panel in chart.axes:
        panel.set_ylim(-0.02, 1)
    return chart


def save(chart: Chart, out_dir: str | Path, name: str) -> None:
    """Write a figure to `out_dir`/`name`.png, whole or not at all."""
    with atomic_path(Path(out_dir) / f"{name}.png") as part:
        chart.savefig(part, format="png", dpi=80)
