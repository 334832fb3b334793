"""Both lessons run, and their networks collapse and recover in numbers."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deepjuice.hooks import HISTOGRAM_2019_POSITIVE, GeneralRelu

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def lesson(monkeypatch):
    """Return a function that imports a lesson as if it were run from its folder."""
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    yield importlib.import_module
    for name in ("lesson_digits", "activation_lesson_2019", "activation_lesson_2022"):
        sys.modules.pop(name, None)


def check_figures(folder, n_figures):
    paths = list(folder.iterdir())
    assert len(paths) == n_figures
    for path in paths:
        with Image.open(path) as picture:
            assert path.suffix == ".png" and np.ptp(np.asarray(picture.convert("L"))) > 100


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_lesson_of_2019(lesson, tmp_path, capsys):
    found = lesson("activation_lesson_2019").main(tmp_path / "figures")
    before, mended = found["as before"], found["mended"]
    assert before["accuracy"] < 0.6 and mended["accuracy"] > 0.9
    assert before["dead"] > 0.1 and mended["dead"] == 0
    assert before["near_zero"] > 0.9 and mended["near_zero"] < 0.4
    assert before["std"] < 0.3 and mended["std"] > 0.7
    assert (
        "40 bins and 61 calls, the last in validation; the first is that of the first batch: True"
        in capsys.readouterr().out
    )
    check_figures(tmp_path / "figures", 10)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_lesson_of_2022(lesson, tmp_path):
    found = lesson("activation_lesson_2022").main(tmp_path / "figures")
    before, mended = found["as before, 0.6"], found["mended, 0.3"]
    assert before["accuracy"] < 0.6 and mended["accuracy"] > 0.9
    assert before["dead"] > 0.1 and mended["dead"] == 0
    assert before["near_zero"] > 0.6 and mended["near_zero"] < 0.4
    # Collapsed as a rule; at this rate rounding decides, and a layer that is nearly dead may also blow up.
    assert (before["std"] < 0.5 or before["std"] > 100) and 0.7 < mended["std"] < 3
    assert found["as before, 0.3"]["accuracy"] < mended["accuracy"]  # the lower rate alone does not do it
    exploded = found["mended, 0.6"]  # as the lesson says
    assert exploded["accuracy"] < 0.3 and (exploded["std"] > 100 or np.isnan(exploded["std"]))
    check_figures(tmp_path / "figures", 19)


def test_all_ways_to_listen_write_down_the_same(lesson):
    """By hand, with torch's hooks, and with hooks of every kind: one training, the same numbers to the bit."""
    module = lesson("activation_lesson_2022")
    digits = sys.modules["lesson_digits"]
    data = digits.get_data()
    data = digits.Data(data.x_train, data.y_train, data.x_valid[:50], data.y_valid[:50])
    digits.Learner.fit.__defaults__ = (1, 500)  # three batches are enough
    by_hand = module.by_hand(data, seed=3).act_means
    assert [len(means) for means in by_hand] == [4] * 6  # three batches, and the validation
    by_hand = torch.tensor(by_hand)[:5, :3]
    assert torch.equal(torch.tensor(module.with_torchs_hooks(module.get_model(3), data, 0.6))[:5, :3], by_hand)
    assert torch.equal(
        torch.stack([torch.stack(h.stats[0]) for h in module.with_single_hooks(data, 3)])[:, :3], by_hand
    )
    assert torch.equal(torch.stack([torch.stack(h.stats[0]) for h in module.with_hooks(data, 3)])[:5, :3], by_hand)
    callback = module.with_callback(data, 3)
    assert [hook.name for hook in callback] == ["0.0", "1.0", "2.0", "3.0", "4"]
    assert torch.equal(torch.stack(callback[4].stats[0]), by_hand[4])


def test_the_digits(lesson):
    digits = lesson("lesson_digits")
    data = digits.get_data()
    assert data.x_train.shape == (1500, 1, 28, 28) and data.x_valid.shape == (297, 1, 28, 28)
    assert abs(data.x_train.mean()) < 1e-5 and abs(data.x_train.std() - 1) < 1e-5
    assert data.y_train.bincount().min() > 130 and set(data.y_valid.tolist()) == set(range(10))
    assert torch.equal(digits.get_data().x_valid, data.x_valid)


def test_the_first_column_of_histograms_belongs_to_the_first_batch(lesson):
    module = lesson("activation_lesson_2019")
    digits = sys.modules["lesson_digits"]
    data = digits.get_data()
    digits.Learner.fit.__defaults__ = (1, digits.BATCH_SIZE)
    hooks = module.with_hooks(module.get_cnn_model(2), data, histogram=HISTOGRAM_2019_POSITIVE)
    assert len(hooks[0].stats[2]) == 13 and module.first_batch_agrees(hooks[0], data, 2)
    assert not module.first_batch_agrees(hooks[0], data, 3)  # other weights


def test_kaiming_for_a_leak(lesson):
    digits = lesson("lesson_digits")
    torch.manual_seed(0)
    model = torch.nn.Sequential(digits.conv(64, 256, act=digits.general_relu()), digits.conv(64, 10))
    untouched = model[1].weight.clone()
    digits.init_cnn(model)
    assert model[0][0].weight.std().item() == pytest.approx((2 / (1 + 0.1**2) / (64 * 9)) ** 0.5, rel=0.01)
    assert not model[0][0].bias.any() and torch.equal(model[1].weight, untouched)
    assert isinstance(model[0][1], GeneralRelu) and model[0][0].stride == (2, 2)
