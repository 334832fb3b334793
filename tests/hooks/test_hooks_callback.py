"""Hooks that are on while a model is trained: which modules, in which mode, and for how long."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deepjuice.hooks import ActivationStats, HooksCallback, noop
from juicyfruits.errors import InputError

X = torch.linspace(-1, 1, 48).reshape(12, 4)


def make_net():
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    return nn.Sequential(block, nn.Dropout(0.5), nn.Linear(4, 2))


def n_hooks(model):
    return sum(len(m._forward_hooks) for m in model.modules())


def note(hook, module, inputs, output):
    hook.modes = [*getattr(hook, "modes", []), module.training]


class Learner:
    """A learner that calls its callbacks as miniai's does: by name, in their order, with or without itself."""

    def __init__(self, model, cbs, hand_over=True):
        self.model, self.cbs, self.hand_over = model, cbs, hand_over
        for cb in cbs:
            cb.learn = self

    def call(self, name):
        for cb in sorted(self.cbs, key=lambda cb: cb.order):
            method = getattr(cb, name, None)
            if method is not None:
                method(*[self] * self.hand_over)

    def fit(self, n_epochs=1, fail=False):
        self.call("before_fit")
        try:
            for _ in range(n_epochs):
                self.model.train()
                for batch in X.split(4):
                    F.mse_loss(self.model(batch), batch[:, :2]).backward()
                    if fail:
                        raise RuntimeError("out of order")
                self.model.eval()
                self.model(X)
            self.call("after_fit")
        finally:
            self.call("cleanup_fit")


@pytest.mark.parametrize("hand_over", [True, False])
def test_it_listens_to_training_batches_of_a_fit_and_to_nothing_else(hand_over):
    net, callback = make_net(), HooksCallback(note, nn.Linear)
    assert len(callback) == 0 and list(callback) == []
    Learner(net, [callback], hand_over).fit(2)
    assert [hook.name for hook in callback] == ["0.0", "2"] and len(callback) == 2
    assert [hook.modes for hook in callback] == [[True] * 6] * 2
    assert n_hooks(net) == 0
    net.train()(X)
    assert callback[0].modes == [True] * 6


@pytest.mark.parametrize(
    ("on_train", "on_valid", "modes"),
    [(True, False, [True] * 3), (False, True, [False]), (True, True, [True] * 3 + [False])],
)
def test_modes(on_train, on_valid, modes):
    net, callback = make_net(), HooksCallback(note, nn.Linear, on_train, on_valid)
    Learner(net, [callback]).fit()
    assert callback[1].modes == modes


def test_the_mode_is_the_models_not_the_layers():
    net, callback = make_net(), HooksCallback(note, nn.Linear)
    with callback.listen(net):
        net.train()
        net[2].eval()  # frozen
        net(X)
    assert [hook.modes for hook in callback] == [[True], [False]]


def test_filters():
    net = make_net()
    everything = [name or "Sequential" for name, _ in net.named_modules()]
    for mod_filter, names in [
        (noop, everything),
        (lambda module: True, everything),
        (nn.ReLU, ["0.1"]),
        ((nn.ReLU, nn.Dropout), ["0.1", "1"]),
        (lambda module: hasattr(module, "weight"), ["0.0", "2"]),
    ]:
        callback = HooksCallback(note, mod_filter)
        with callback.listen(net):
            assert [hook.name for hook in callback] == names
    with HooksCallback(note, modules=(net[i] for i in (2, 1))).listen(net) as callback:
        assert [hook.name for hook in callback] == ["1", "2"]
    with HooksCallback(note).listen(nn.Sequential()) as callback:  # which is false, and yet a module
        assert len(callback) == 1
    with pytest.raises(InputError, match="chose none of the 6 modules of the Sequential"):
        HooksCallback(note, nn.Conv2d).start(net)
    other = nn.ReLU()
    with pytest.raises(InputError, match="1 of 2 modules to listen to are no part of the Sequential"):
        HooksCallback(note, modules=[net[0], other]).start(net)
    assert n_hooks(net) == 0


def test_what_is_no_learner_is_refused():
    with pytest.raises(InputError, match=r"in a loop of your own use `with callback\.listen\(model\)`"):
        HooksCallback(note).before_fit()
    with pytest.raises(InputError, match="every=0"):
        HooksCallback(note, every=0)


def test_every_second_call():
    net, callback = make_net(), HooksCallback(lambda module, inputs, output: len(output), nn.Linear, every=2)
    stored = []
    with callback.listen(net):
        for n in (3, 4, 5, 6, 7):
            net(X[:n])
            stored.append(callback[0].stored)
    assert stored == [3, 3, 5, 5, 7]


def test_a_fit_begins_anew_and_hooks_do_not_multiply():
    net, callback = make_net(), HooksCallback(note, nn.Linear)
    learner = Learner(net, [callback])
    learner.fit(3)
    first = list(callback)
    learner.fit(1)
    assert callback[0].modes == [True] * 3 and first[0].modes == [True] * 9
    callback.start(net)
    held = list(callback)
    callback.start(net)
    assert n_hooks(net) == 2
    net(X)
    assert not hasattr(held[0], "modes")


def test_an_exception_leaves_no_hook():
    net, callback = make_net(), HooksCallback(note, nn.Linear)
    with pytest.raises(RuntimeError, match="out of order"):
        Learner(net, [callback]).fit(fail=True)
    assert n_hooks(net) == 0 and callback[0].modes == [True]
    with pytest.raises(RuntimeError, match="loop"), callback.listen(net):
        raise RuntimeError("loop")
    assert n_hooks(net) == 0


def test_neither_keeps_the_other_alive():
    net, callback = make_net(), ActivationStats(nn.Linear, modules=None)
    activations = []
    watching = net[2].register_forward_hook(lambda module, inputs, output: activations.append(weakref.ref(output)))
    with callback.listen(net):
        net(X)
    watching.remove()
    model = weakref.ref(net)
    del net
    gc.collect()
    assert model() is None and activations[0]() is None
    assert len(callback.table()) == 2  # the statistics stay
    net = make_net()
    callback.start(net)
    gone = weakref.ref(callback), weakref.ref(callback[0])
    del callback
    assert gone[0]() is None and gone[1]() is None and n_hooks(net) == 0  # without the garbage collector
    callback = HooksCallback(note, modules=[net[0]])
    callback.start(net)
    model = weakref.ref(net[0])
    del net
    gc.collect()
    assert model() is None and len(callback) == 1
    net = make_net()
    callback = HooksCallback(note, nn.Linear)
    callback.start(net)
    layer = net[2]
    del net
    gc.collect()
    layer(X)  # a part outlives the model, whose mode nobody knows now
    assert not hasattr(callback[1], "modes")


def test_a_copy_of_a_callback_keeps_its_statistics():
    net, callback = make_net(), ActivationStats(nn.Linear)
    callback.start(net)
    net(X)
    for copied in (copy.deepcopy(callback), pickle.loads(pickle.dumps(callback))):
        net(X)
        assert copied.table().batch.tolist() == [0, 0]
        with copied.listen(net):  # and can be used itself
            net(X)
            net(X)
        assert copied.table().batch.tolist() == [0, 1, 0, 1]


@pytest.mark.slow  # torch loads its compiler for this
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
def test_models_that_do_not_call_hooks_are_refused():
    net, in_place = make_net(), make_net()
    in_place[0].compile(backend="eager")
    for model, name in [
        (torch.compile(net, backend="eager"), "''"),
        (in_place, "'0'"),
        (torch.jit.trace(make_net().eval(), X), "''"),
    ]:
        with pytest.raises(InputError, match=rf"module {name} \(.*\) is compiled.*model\._orig_mod"):
            HooksCallback(note).start(model)
    replicated = nn.DataParallel(net)
    replicated.device_ids = [0, 1]
    with pytest.raises(InputError, match="DataParallel over 2 devices"):
        HooksCallback(note).start(replicated)
    assert n_hooks(net) == n_hooks(in_place) == 0


def test_what_is_not_installed_is_named(monkeypatch):
    for name in ("fastai.callback.core", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(InputError, match="callback for fastai needs the package"):
        HooksCallback(note).as_fastai()
    with pytest.raises(InputError, match="callback for Lightning needs the package"):
        HooksCallback(note).as_lightning()
