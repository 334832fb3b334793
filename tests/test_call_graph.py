"""The call graph of small networks, against what their `forward` says and what plain hooks see."""

import gc
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet18

from deepjuice.tracing.graph import CONSTANT, CallGraph, Source
from juicyfruits.errors import InputError


class Net(nn.Module):
    """Whose forward pass is a function of itself and the input."""

    def __init__(self, forward, **modules):
        super().__init__()
        self._forward = forward
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self._forward(self, x)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def told(graph):
    return [(op.name, op.kind, op.sources) for op in graph.operations]


def test_a_sequence_of_modules_is_named_by_them():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), nn.Flatten())
    graph = CallGraph(net, draw(2, 3, 8, 8))
    assert told(graph) == [
        ("x_in", "x_in", ()),
        ("0", "conv2d", (0,)),
        ("1", "batch_norm", (1,)),
        ("2.0", "relu", (2,)),
        ("2.1", "max_pool2d", (3,)),
        ("3", "flatten", (4,)),
    ]
    assert [op.index for op in graph.operations] == list(range(6)) and graph.output == 5
    assert [op.shape for op in graph.operations][1:] == [(2, 4, 6, 6)] * 3 + [(2, 4, 3, 3), (2, 36)]
    assert [op.path for op in graph.operations] == ["", "0", "1", "2.0", "2.1", "3"]
    conv = graph.operations[1]
    assert conv.args[0] == Source(0) and conv.args[1] is net[0].weight and conv.function is torch.conv2d


@pytest.mark.parametrize(
    "forward, expected",
    [
        (lambda net, x: torch.relu(x) + x, [("relu", "relu", (0,)), ("add", "add", (1, 0))]),
        (lambda net, x: x.relu().add(x), [("relu", "relu", (0,)), ("add", "add", (1, 0))]),
        (lambda net, x: 1 - x, [("sub", "sub", (0,))]),
        (lambda net, x: x * x, [("mul", "mul", (0, 0))]),
        (lambda net, x: F.relu(x, inplace=True), [("relu", "relu", (0,))]),
        (lambda net, x: x.T.mT, [("T", "T", (0,)), ("mT", "mT", (1,))]),
        (lambda net, x: torch.cat([x, x.neg(), x], 1), [("neg", "neg", (0,)), ("cat", "cat", (0, 1, 0))]),
        (lambda net, x: x[:, 1:3], [("getitem", "getitem", (0,))]),
        (lambda net, x: x.abs().abs(), [("abs", "abs", (0,)), ("abs:2", "abs", (1,))]),
        (lambda net, x: torch.einsum("nc,nc->nc", x, x), [("einsum", "einsum", (0, 0))]),
    ],
)
def test_functions_and_operators_are_operations(forward, expected):
    assert told(CallGraph(Net(forward), draw(2, 4)))[1:] == expected


def test_in_place_operations_are_operations_like_others():
    def forward(net, x):
        y = x * 2
        y += x
        z = y.relu_()
        assert z is y
        return net.act(z)

    graph = CallGraph(Net(forward, act=nn.ReLU(inplace=True)), draw(2, 4))
    assert told(graph)[1:] == [
        ("mul", "mul", (0,)),
        ("add", "add", (1, 0)),
        ("relu", "relu", (2,)),
        ("act", "relu", (3,)),
    ]


def test_sums_that_begin_with_zeros_are_followed_and_constants_may_change():
    def forward(net, x):
        total, mask = torch.zeros(x.shape), torch.zeros(4)
        total += x
        mask[1:].add_(2)
        return total * mask

    graph = CallGraph(Net(forward), draw(2, 4))
    assert told(graph)[1:] == [("add", "add", (0,)), ("mul", "mul", (1,))]
    assert torch.equal(graph.operations[2].args[1], torch.tensor([0.0, 2, 2, 2]))


def test_parts_of_an_operation_are_operations_with_numbers():
    def forward(net, x):
        one, other = x.chunk(2, dim=1)
        return one + other.unbind(1)[1][:, None]

    graph = CallGraph(Net(forward), draw(2, 4))
    assert told(graph)[1:] == [
        ("chunk[0]", "chunk", (0,)),
        ("chunk[1]", "chunk", (0,)),
        ("unbind[0]", "unbind", (2,)),
        ("unbind[1]", "unbind", (2,)),
        ("getitem", "getitem", (4,)),
        ("add", "add", (1, 5)),
    ]
    assert [op.part for op in graph.operations] == [0, 0, 1, 0, 1, 0, 0]


def test_a_module_that_is_called_twice_has_two_operations():
    graph = CallGraph(Net(lambda net, x: net.act(net.one(net.act(x))), act=nn.ReLU(), one=nn.Linear(4, 4)), draw(2, 4))
    assert [op.name for op in graph.operations] == ["x_in", "act", "one", "act:2"]
    assert graph.returned == {"ReLU-1-1": 1, "Linear-1-2": 2, "ReLU-1-3": 3, "Net-0-1": 3}


def test_a_module_with_several_operations_gives_its_name_to_the_first():
    class Twice(nn.Module):
        def forward(self, x):
            return torch.relu(x).abs()

    graph = CallGraph(nn.Sequential(Twice(), nn.Sequential(Twice())), draw(2, 4))
    assert [op.name for op in graph.operations] == ["x_in", "0", "0.abs", "1.0", "1.0.abs"]


def test_between_modules_operations_have_the_name_of_where_they_stand():
    block = Net(lambda net, x: torch.relu(net.conv(x) + x), conv=nn.Conv2d(3, 3, 1))
    graph = CallGraph(nn.Sequential(nn.Identity(), block), draw(1, 3, 4, 4))
    assert [(op.name, op.path) for op in graph.operations[1:]] == [
        ("1.conv", "1.conv"),
        ("1.add", "1"),
        ("1.relu", "1"),
    ]
    assert graph.returned == {"Identity-1-1": 0, "Conv2d-2-1": 1, "Net-1-2": 3, "Sequential-0-1": 3}


def test_what_parameters_alone_make_is_a_constant():
    net = Net(lambda net, x: F.linear(x, (net.w * 2).softmax(0)) + torch.arange(3.0), w=nn.Parameter(draw(3, 4)))
    graph = CallGraph(net, draw(2, 4))
    assert told(graph)[1:] == [("linear", "linear", (0,)), ("add", "add", (1,))]
    torch.testing.assert_close(graph.operations[1].args[1], (net.w * 2).softmax(0))


def test_buffers_plain_tensors_and_new_tensors_are_constants():
    class Offset(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.tensor([1.0, 2.0]))
            self.shift = torch.tensor([3.0, 4.0])

        def forward(self, x):
            return x * self.scale + self.shift + torch.ones_like(x) + x.new_zeros(2)

    graph = CallGraph(Offset().eval(), draw(2, 2))
    assert [op.sources for op in graph.operations] == [(), (0,), (1,), (2,), (3,)]
    assert CONSTANT not in {source for op in graph.operations for source in op.sources}


def test_values_are_those_that_plain_hooks_see():
    """Of a network whose ReLUs and sums change activations in place: values are as they were then."""
    torch.manual_seed(0)
    net, x, seen = resnet18().eval(), draw(2, 3, 48, 48), {}
    paths = [path for path, module in net.named_modules() if path and not any(module.children())]
    handles = [
        net.get_submodule(path).register_forward_hook(
            lambda _, __, out, path=path: seen.setdefault(path, []).append(out.clone())
        )
        for path in paths
    ]
    with torch.no_grad():
        expected = net(x)
    for handle in handles:
        handle.remove()
    graph = CallGraph(net, x[:1])
    kept = graph.run(x, range(len(graph.operations)))
    assert len(kept) == len(graph.operations) and torch.equal(kept[graph.output], expected)
    assert torch.equal(kept[0], x)
    first = {}
    for op in graph.operations:
        if op.path in seen:
            first.setdefault(op.path, []).append(kept[op.index])
    assert first.keys() == seen.keys()
    for path, values in first.items():
        torch.testing.assert_close(values, seen[path], rtol=0, atol=0, msg=path)
    calls = {uid: index for uid, index in graph.returned.items() if uid.startswith("BasicBlock")}
    assert len(calls) == 8 and all(graph.operations[i].kind == "relu" for i in calls.values())


def test_only_what_is_asked_for_is_kept_and_copied():
    net, x = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True)), draw(5, 4)
    graph = CallGraph(net, x[:2])
    kept = graph.run(x, [1])
    assert list(kept) == [1] and not kept[1].requires_grad
    torch.testing.assert_close(kept[1], F.linear(x, net[0].weight, net[0].bias).detach())
    assert kept[1].min() < 0 and graph.run(x, []) == {}


def test_graphs_are_recorded_within_inference_mode_too():
    net, x = nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True)), draw(2, 4)
    with torch.inference_mode():
        graph = CallGraph(net, x.clone())
        kept = graph.run(x * 1, [1])
    assert told(graph) == told(CallGraph(net, x)) and not kept[1].is_inference() and not kept[1].requires_grad
    torch.testing.assert_close(kept[1], net[0](x).detach())


def test_the_input_is_left_as_it_was():
    x = draw(2, 4)
    before = x.clone()
    graph = CallGraph(Net(lambda net, x: x.relu_().add_(1)), x)
    graph.run(x, [0])
    assert torch.equal(x, before)


def test_modes_and_hooks_are_as_before(monkeypatch):
    net = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(4), nn.Linear(4, 2)).train()
    net[1].eval()
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    graph = CallGraph(net, draw(3, 4))
    graph.run(draw(3, 4), [2])
    assert [module.training for module in net.modules()] == [True, True, False, True]
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in net.modules())
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())


def test_hooks_are_gone_after_an_error_too():
    net = Net(lambda net, x: (net.one(x), net.one(x)), one=nn.Linear(4, 4)).train()
    with pytest.raises(InputError):
        CallGraph(net, draw(2, 4))
    assert net.training and all(not m._forward_hooks and not m._forward_pre_hooks for m in net.modules())
    torch.relu(draw(2))  # nothing listens any more


def test_a_graph_keeps_activations_of_no_pass():
    refs = []

    def forward(net, x):
        y = net.one(x)
        refs.append(weakref.ref(y))
        return y.relu()

    net = Net(forward, one=nn.Linear(4, 4))
    graph = CallGraph(net, draw(2, 4))
    graph.run(draw(2, 4), [2])
    gc.collect()
    assert len(refs) == 2 and [ref() for ref in refs] == [None, None]


def test_a_model_goes_with_its_graph():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    ref, graph = weakref.ref(net), CallGraph(net, draw(2, 4))
    del net
    gc.collect()
    assert ref() is graph.model
    del graph
    gc.collect()
    assert ref() is None


class Branching(nn.Module):
    def forward(self, x):
        x = torch.relu(x)
        return torch.abs(x) if x.sum() > 1 else torch.neg(x)


class Repeating(nn.Module):
    def forward(self, x):
        for _ in range(int(x[0, 0])):
            x = torch.neg(x)
        return x


@pytest.mark.parametrize(
    "net, example, x",
    [
        (Branching(), torch.zeros(1, 2), torch.ones(1, 2)),
        (Repeating(), 2 * torch.ones(1, 2), torch.ones(1, 2)),
        (Repeating(), torch.ones(1, 2), 2 * torch.ones(1, 2)),
    ],
    ids=["branches", "fewer", "more"],
)
def test_a_network_whose_path_depends_on_its_input_is_refused(net, example, x):
    graph = CallGraph(net, example)
    assert graph.run(example, [graph.output])
    with pytest.raises(InputError, match="depend on its input cannot be followed"):
        graph.run(x, [graph.output])


def write_through_a_view(net, x):
    y = x * 2
    y[:, 0].mul_(3)
    return y.relu()


def write_after_reading(net, x):
    y = x * 2
    y[:, :1] = 0
    return y


def write_into_a_part_of_a_constant(net, x):
    y = torch.zeros_like(x)
    y[:, :2].copy_(x[:, :2])
    return y.relu()


def write_into_a_constant_that_has_a_view(net, x):
    y = torch.zeros(x.shape)
    part = y[:, :2]
    y += x
    return part * x[:, :2]


def refuse_foreign(net, x):
    return torch.from_numpy(np.abs(x.numpy())).relu()


@pytest.mark.parametrize(
    "forward, match",
    [
        (write_through_a_view, "relu at '': the output of 'mul' was changed through a view of it"),
        (write_after_reading, "setitem at ''"),
        (write_into_a_part_of_a_constant, "relu at '': activations were written into a view"),
        (write_into_a_constant_that_has_a_view, "mul at '': activations were written into a view"),
        (refuse_foreign, "relu at '': a tensor .2, 4. comes from where it cannot be followed"),
        (lambda net, x: (x, x + 1), "expected one tensor, got tuple"),
        (lambda net, x: {"out": x}, "expected one tensor, got dict"),
        (lambda net, x: torch.from_numpy(x.numpy() * 2), "the output of the network at '': a tensor"),
    ],
)
def test_what_cannot_be_followed_is_refused(forward, match):
    with pytest.raises(InputError, match=match):
        CallGraph(Net(forward), draw(2, 4))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        return grad * 2


def test_autograd_functions_of_a_network_are_refused_or_followed():
    """Their forward pass consists of torch functions, or is refused: never left out."""
    try:
        graph = CallGraph(Net(lambda net, x: Doubled.apply(x).relu()), draw(2, 4))
    except InputError as error:
        assert "cannot be followed" in str(error)
    else:
        assert [op.kind for op in graph.operations] == ["x_in", "mul", "relu"]


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_a_compiled_network_is_refused():
    with pytest.raises(InputError, match="compiled"):
        CallGraph(torch.jit.trace(nn.Linear(4, 2), draw(1, 4)), draw(1, 4))


def test_outputs_are_freed_as_soon_as_they_are_let_go():
    """Without a collection of garbage, which comes too late for what is counted in gigabytes."""
    graph = CallGraph(Net(lambda net, x: torch.relu(x) + x), draw(2, 4))
    gc.collect()
    gc.disable()
    try:
        held = graph.run(draw(2, 4), {1, 2})
        alive = [weakref.ref(output) for output in held.values()]
        del held
        assert [ref() for ref in alive] == [None, None]
    finally:
        gc.enable()
