"""Callbacks of fastai and Lightning: they record what a plain loop over the same batches records."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from deepjuice.hooks import ActivationStats

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # importing these libraries takes longer than the tests

X = torch.linspace(-2, 2, 96).reshape(24, 4)
Y = X[:, :2].square()
LR = 0.1


def make_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def make_stats():
    return ActivationStats((nn.Linear, nn.ReLU))


def loaders():
    return DataLoader(TensorDataset(X, Y), batch_size=8), DataLoader(TensorDataset(X[:8], Y[:8]), batch_size=8)


def plain_loop(n_epochs=2):
    """Return the table of a plain loop of stochastic gradient descent."""
    net, stats = make_net(), make_stats()
    optimizer = torch.optim.SGD(net.parameters(), LR)
    with stats.listen(net):
        for _ in range(n_epochs):
            for x, y in loaders()[0]:
                optimizer.zero_grad()
                F.mse_loss(net(x), y).backward()
                optimizer.step()
    return stats.table()


def n_hooks(model):
    return sum(len(m._forward_hooks) for m in model.modules())


def check(found, n_epochs=2):
    expected = plain_loop(n_epochs)
    assert found.layer.tolist() == expected.layer.tolist() and len(found) == 3 * 3 * n_epochs
    for column in ("mean", "std", "near_zero", "dead"):
        assert found[column].tolist() == pytest.approx(expected[column].tolist(), abs=1e-5)


def make_fastai_learner(stats, **options):
    pytest.importorskip("fastai.callback.all")  # which gives Learner its context managers and lr_find
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper

    def optimizer(parameters, lr):
        return OptimWrapper(parameters, torch.optim.SGD, lr=lr)

    callbacks = [stats.as_fastai()]
    data = DataLoaders(*loaders(), device=torch.device("cpu"))
    return Learner(data, make_net(), loss_func=F.mse_loss, opt_func=optimizer, lr=LR, cbs=callbacks, **options)


def test_fastai():
    stats = make_stats()
    learner = make_fastai_learner(stats)
    with learner.no_bar(), learner.no_logging():
        learner.fit(2)
    check(stats.table())
    assert n_hooks(learner.model) == 0


def test_fastais_rate_finder_is_no_fit(tmp_path):
    stats = make_stats()
    learner = make_fastai_learner(stats, path=tmp_path)
    with learner.no_bar(), learner.no_logging():
        learner.fit(1)
        before = stats.table()
        learner.lr_find(num_it=3, show_plot=False)
    assert stats.table().equals(before) and n_hooks(learner.model) == 0


def make_lightning(stats, fail=False):
    lightning = pytest.importorskip("lightning.pytorch")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = make_net()

        def training_step(self, batch, batch_idx):
            if fail and batch_idx:
                raise RuntimeError("out of order")
            x, y = batch
            return F.mse_loss(self.net(x), y)

        def validation_step(self, batch, batch_idx):
            self.net(batch[0])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), LR)

    quiet = {name: False for name in ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")}
    trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", callbacks=[stats.as_lightning()], **quiet)
    return trainer, Module()


def test_lightning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stats = make_stats()
    trainer, module = make_lightning(stats)
    trainer.fit(module, *loaders())
    table = stats.table()
    assert table.layer.unique().tolist() == ["net.0", "net.1", "net.2"]
    check(table.assign(layer=table.layer.str.removeprefix("net.")))
    assert n_hooks(module) == 0


def test_lightnings_sanity_check_is_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stats = ActivationStats(nn.ReLU, on_valid=True)
    trainer, module = make_lightning(stats)
    trainer.fit(module, *loaders())
    assert len(stats.table()) == 2 * (3 + 1)  # batches of training and of validation


def test_lightning_without_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stats = ActivationStats(nn.ReLU, on_valid=True)
    trainer, module = make_lightning(stats)
    module.test_step = module.predict_step = module.validation_step
    for run in (trainer.validate, trainer.test, trainer.predict):
        run(module, loaders()[1], verbose=False) if run != trainer.predict else run(module, loaders()[1])
        assert len(stats.table()) == 1 and n_hooks(module) == 0


def test_lightning_when_training_fails(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stats = make_stats()
    trainer, module = make_lightning(stats, fail=True)
    with pytest.raises(RuntimeError, match="out of order"):
        trainer.fit(module, *loaders())
    assert n_hooks(module) == 0 and len(stats.table()) == 3
