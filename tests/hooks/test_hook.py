"""One hook and lists of hooks: what they are told, when they are off, and that they keep nothing alive."""

import copy
import gc
import pickle
import weakref
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from deepjuice.hooks import Hook, Hooks, hook_output, hook_outputs, model_sizes
from juicyfruits.errors import InputError


def make_net(inplace=False):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=inplace), nn.Linear(3, 2))


def n_hooks(model):
    return sum(len(m._forward_hooks) + len(m._backward_hooks) for m in model.modules())


def count(hook, module, inputs, output):
    hook.n = getattr(hook, "n", 0) + 1


X = torch.linspace(-1, 1, 20).reshape(5, 4)


def test_the_form_with_four_arguments_is_told_hook_module_input_and_output():
    net, told = make_net(), []
    hook = Hook(net[0], lambda *given: told.append(given))
    net(X)
    (given,) = told
    assert given[0] is hook and given[1] is net[0]
    assert given[2][0] is X and torch.equal(given[3], X @ net[0].weight.T + net[0].bias)
    assert given[3].requires_grad  # as the layer gave it


def test_the_form_with_three_arguments_stores_what_it_returns():
    net = make_net()
    with Hook(net[0], lambda module, input, output: (module, input, output)) as hook:
        assert hook.stored is None
        net(X.requires_grad_())
    module, (x,), output = hook.stored
    assert module is net[0] and torch.equal(output, net[0](X))
    assert not x.requires_grad and not output.requires_grad
    with Hook(net[0], lambda module, input, output: output, detach=False) as hook:
        out = net(X)
        assert hook.stored.grad_fn is not None
    torch.autograd.grad(out.sum(), hook.stored)  # it is the tensor of the graph


@pytest.mark.parametrize(
    ("f", "n_arguments"),
    [
        (lambda *args: args, 4),
        (lambda a, b, c, d=None: (a, b, c, d), 4),
        (lambda a, b, c, *, d=None: (a, b, c), 3),
        (partial(lambda first, a, b, c: (a, b, c), 0), 3),
        (partial(lambda a, b, c, d, last: (a, b, c, d), last=1), 4),
    ],
)
def test_which_form_a_function_has_is_told_by_what_it_can_take(f, n_arguments):
    net, told = make_net(), []

    def watched(*given):
        told.append(given)

    watched.__signature__ = __import__("inspect").signature(f)
    with Hook(net[0], watched):
        net(X)
    assert len(told[0]) == n_arguments


@pytest.mark.parametrize("f", [lambda a, b: None, lambda a, b, c, d, e: None, lambda a, b, c, *, d: None, 7, None])
def test_other_functions_are_refused_and_leave_no_hook(f):
    net = make_net()
    with pytest.raises(InputError, match="function of a hook"):
        Hooks(net, f)
    assert n_hooks(net) == 0


def test_what_is_no_module_is_refused():
    with pytest.raises(InputError, match="hook on a str"):
        Hook("0", count)
    net = make_net()
    with pytest.raises(InputError, match="hook on a NoneType"):
        Hooks([net[0], None], count)
    gc.collect()
    assert n_hooks(net) == 0
    with pytest.raises(InputError, match="hooks on a Linear"):
        Hooks(nn.Linear(1, 1), count)


def test_the_output_is_not_changed_by_what_a_function_returns():
    net = make_net()
    before = net(X)
    with Hook(net[0], lambda hook, module, input, output: output * 0):
        assert torch.equal(net(X), before)


def test_backward_hooks_get_the_gradients():
    net = make_net()
    with Hook(net[2], lambda module, grad_input, grad_output: (grad_input, grad_output), is_forward=False) as hook:
        hidden = net[:2](X)
        net[2](hidden).square().sum().backward()
    (grad_input,), (grad_output,) = hook.stored
    expected = 2 * net[2](hidden).detach()
    assert torch.allclose(grad_output, expected) and torch.allclose(grad_input, expected @ net[2].weight)


def test_remove_ends_it_any_number_of_times_and_so_does_dropping():
    net = make_net()
    hook = Hook(net[0], count)
    net(X)
    for _ in range(3):
        hook.remove()
    net(X)
    assert hook.n == 1 and n_hooks(net) == 0
    hook = Hook(net[0], count)
    del hook
    assert n_hooks(net) == 0
    Hook(net[0], count)  # never held
    assert n_hooks(net) == 0


def test_removing_one_of_two_hooks_leaves_the_other():
    net = make_net()
    first, second = Hook(net[0], count), Hook(net[0], count)
    first.remove()
    net(X)
    assert not hasattr(first, "n") and second.n == 1


@pytest.mark.parametrize("make", [lambda net, f: Hook(net[0], f), Hooks])
def test_an_exception_in_the_block_leaves_no_hook(make):
    net = make_net()
    with pytest.raises(RuntimeError, match="shapes"), make(net, count):
        net(torch.ones(2, 99))
    assert n_hooks(net) == 0
    with pytest.raises(ZeroDivisionError), make(net, lambda module, input, output: 1 / 0):
        net(X)
    assert n_hooks(net) == 0


def test_neither_hook_nor_model_keeps_the_other_alive():
    net = make_net()
    hooks = Hooks(net, count)
    model, first = weakref.ref(net), weakref.ref(hooks[0])
    net(X)
    del net
    gc.collect()
    assert model() is None and hooks[0].n == 1
    del hooks
    assert first() is None  # at once, without the garbage collector


def test_no_activation_outlives_the_pass():
    net, alive = make_net(), []
    with Hooks(net, lambda hook, module, input, output: alive.append(weakref.ref(output))):
        net(X)
    gc.collect()
    assert len(alive) == 3 and all(ref() is None for ref in alive)
    with pytest.raises(ZeroDivisionError), hook_outputs(net), Hook(net[2], lambda *told: 1 / 0):
        net(X)
    with hook_outputs(net) as hooks:
        net(X)
        alive = [weakref.ref(output) for output in hooks.stored]
    del hooks
    assert all(ref() is None for ref in alive)


def test_indexing():
    net = nn.Sequential(*[nn.Identity() for _ in range(6)])
    hooks = Hooks(net, count)
    plain = list(hooks)
    assert isinstance(hooks, list) and len(hooks) == 6
    assert hooks[1] is plain[1] and hooks[-1] is plain[5] and hooks[np.int64(2)] is hooks[torch.tensor(2)] is plain[2]
    assert hooks[1:3] == plain[1:3] and type(hooks[1:3]) is list and hooks[::-1] == plain[::-1]
    for indices in ([0, 4, 4], np.array([0, 4, 4]), torch.tensor([0, 4, 4]), (0, 4, 4)):
        assert hooks[indices] == [plain[0], plain[4], plain[4]]
    mask = [True, False, False, True, False, True]
    for given in (mask, np.array(mask), torch.tensor(mask)):
        assert hooks[given] == [plain[0], plain[3], plain[5]]
    assert hooks[[]] == []
    with pytest.raises(InputError, match="mask of 2 values: expected one of True and False for each of 6 hooks"):
        hooks[[True, False]]
    with pytest.raises(InputError, match="mask"):
        hooks[[True, 0, 1, 1, 1, 1]]
    with pytest.raises(IndexError):
        hooks[6]
    with pytest.raises(TypeError):
        hooks["0"]


def test_deleting_unhooks_what_is_deleted_and_nothing_else():
    net = nn.Sequential(*[nn.Identity() for _ in range(6)])
    hooks = Hooks(net, count)
    held = list(hooks)
    del hooks[1]
    del hooks[-2:]
    net(X)
    assert [getattr(hook, "n", 0) for hook in held] == [1, 0, 1, 1, 0, 0]
    assert list(hooks) == [held[0], held[2], held[3]]
    hooks.remove()
    hooks.remove()
    assert n_hooks(net) == 0 and len(hooks) == 3


@pytest.mark.parametrize("which", [[0, -1], [True, False, True], torch.tensor([True, False, True]), np.array([2, 0])])
def test_deleting_takes_lists_of_indices_and_masks(which):
    net = make_net()
    hooks = Hooks(net, count)
    held = list(hooks)
    del hooks[which]
    net(X)
    assert list(hooks) == [held[1]] and [getattr(hook, "n", 0) for hook in held] == [0, 1, 0]
    with pytest.raises(InputError, match="a mask of 3 values"):
        del hooks[[True, False, True]]
    assert len(hooks) == 1


def test_statistics_survive_removal():
    net = make_net()
    with Hooks(iter(net), count) as hooks:
        net(X)
    net(X)
    assert [hook.n for hook in hooks] == [1, 1, 1] and [hook.name for hook in hooks] == ["Linear", "ReLU", "Linear"]


def test_copies_of_model_and_hooks_listen_to_nothing_but_keep_what_was_written():
    net = make_net()
    hooks = Hooks(net, count)
    net(X)
    for copied in (copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))):
        other, other_hooks = copied(net), copied(hooks)
        other(X)
        assert isinstance(other_hooks, Hooks) and [hook.n for hook in other_hooks] == [1, 1, 1]
        other_hooks.remove()
        for hook in other_hooks:
            hook.remove()
    net(X)
    assert [hook.n for hook in hooks] == [2, 2, 2]
    assert not any("_handle" in vars(hook) for hook in other_hooks)  # nor do they hold the model's hooks


def test_hook_outputs_stores_what_the_layer_gave_though_the_next_one_changes_it_in_place():
    net = make_net(inplace=True)
    with hook_outputs(net) as hooks:
        output = net(X)
    expected = X @ net[0].weight.T + net[0].bias
    assert (expected < 0).any()
    assert torch.equal(hooks.stored[0], expected) and torch.equal(hooks.stored[2], output)
    assert not any(stored.requires_grad for stored in hooks.stored)
    with hook_output(net[0], detach=False) as hook:
        loss = net(X).sum()
    assert hook.stored.requires_grad
    with hook_output(net[2], grad=True) as hook:
        net(X).sum().backward()
    assert torch.equal(hook.stored[0], torch.ones(5, 2)) and loss.requires_grad


def test_detaching_reaches_into_nested_outputs():
    lstm = nn.LSTM(4, 3)
    with hook_output(lstm) as hook:
        expected = lstm(X)
    output, (h, c) = hook.stored
    for stored, given in zip((output, h, c), (expected[0], *expected[1]), strict=True):
        assert torch.equal(stored, given) and given.requires_grad and not stored.requires_grad


def test_model_sizes():
    conv = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2, groups=2), nn.BatchNorm2d(8), nn.Flatten(), nn.LazyLinear(5))
    conv(torch.ones(2, 6, 9, 9))
    conv.train()
    mean = conv[1].running_mean.clone()
    assert model_sizes(conv, (9, 9)) == [(1, 8, 4, 4), (1, 8, 4, 4), (1, 128), (1, 5)]
    assert conv.training and conv[1].training and torch.equal(conv[1].running_mean, mean) and n_hooks(conv) == 0
    assert model_sizes(make_net().double(), (4,)) == [(1, 3), (1, 3), (1, 2)]
    with pytest.raises(InputError, match="no Conv2d to tell the channels"):
        model_sizes(make_net(), (9, 9))
    net = make_net()
    net.add_module("lstm", nn.LSTM(2, 2))
    with pytest.raises(InputError, match="'lstm' was not run, or gave no single tensor"):
        model_sizes(net, (4,))
