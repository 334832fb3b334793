import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn


class TinyNet(nn.Module):
    """A network with what makes extraction hard: in-place operations, a module called twice, a residual, a tuple."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.act = nn.ReLU(inplace=True)
        self.norm = nn.BatchNorm2d(4)
        self.blocks = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)])
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(4 * 36, 5))

    def forward(self, x):
        x = self.norm(self.act(self.conv(x)))
        for block in self.blocks:
            x = self.act(x + block(x))
        return self.head(x)


def to_tensor(picture: Image.Image) -> torch.Tensor:
    pixels = np.asarray(picture.resize((8, 8)), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return TinyNet()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    paths = [folder / f"{i:02d}.png" for i in range(11)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(path)
    return paths
