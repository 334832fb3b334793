import gc
import weakref

import pytest
import torch
import torchinfo
from torch import nn
from torchvision import models

from deepjuice.tracing import Tracer, evaluating, tensors_in
from juicyfruits.errors import InputError


def n_hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_calls_begin_in_preorder_and_complete_in_postorder(net):
    completed = []
    with Tracer(net, lambda event: completed.append(event.call.uid)) as tracer, evaluating(net):
        tracer(torch.rand(2, 3, 8, 8))
    begun = [call.uid for call in tracer.calls]
    assert begun[0] == "TinyNet-0-1" and completed[-1] == "TinyNet-0-1"
    assert sorted(begun) == sorted(completed)
    assert completed.index("Linear-2-5") < completed.index("Sequential-1-6")


def test_a_reused_module_gets_a_uid_a_call(net):
    with Tracer(net, lambda event: None) as tracer, evaluating(net):
        tracer(torch.rand(1, 3, 8, 8))
    calls = [call for call in tracer.calls if call.path == "act"]
    assert [call.number for call in calls] == [0, 1, 2]
    assert [call.uid for call in calls] == ["ReLU-1-2", "ReLU-1-4", "ReLU-1-5"]


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "squeezenet1_0", "vgg11"])
def test_uids_are_those_of_torchinfo(name):
    """The names under which layers are known; torchinfo numbers calls alike where no container goes uncalled."""
    model = models.get_model(name, weights=None).eval()
    x = torch.rand(1, 3, 224, 224)
    with torch.no_grad(), Tracer(model, lambda event: None) as tracer:
        tracer(x)
    summary = torchinfo.summary(model, input_data=x, depth=99, verbose=0, mode="eval")
    expected = [f"{i.class_name}-{i.depth}-{i.depth_index}" for i in summary.summary_list]
    assert [call.uid for call in tracer.calls] == expected


def test_events_show_the_output_before_it_is_overwritten_in_place(net):
    seen = {}
    with Tracer(net, lambda e: seen.setdefault(e.call.uid, e.output.clone())) as tracer, evaluating(net):
        x = torch.rand(2, 3, 8, 8)
        tracer(x)
    expected = net.conv(x)
    torch.testing.assert_close(seen["Conv2d-1-1"], expected)
    assert (seen["Conv2d-1-1"] < 0).any() and (seen["ReLU-1-2"] >= 0).all()


def test_rows_say_where_a_batch_stands(net):
    rows = set()
    with Tracer(net, lambda event: rows.add((event.rows.start, event.rows.stop))) as tracer, evaluating(net):
        tracer(torch.rand(3, 3, 8, 8))
        tracer(torch.rand(2, 3, 8, 8), start_row=3)
    assert rows == {(0, 3), (3, 5)}


class Fickle(nn.Module):
    def __init__(self, order):
        super().__init__()
        self.a, self.b, self.order = nn.Linear(2, 2), nn.ReLU(), order

    def forward(self, x):
        for name in self.order:
            x = getattr(self, name)(x)
        return x


@pytest.mark.parametrize(("later", "named"), [("ba", "ReLU-1-1"), ("a", "ReLU-1-2"), ("aba", "Linear-1-3")])
def test_a_batch_that_departs_from_the_first_is_refused_by_name(later, named):
    model = Fickle("ab")
    with Tracer(model, lambda event: None) as tracer:
        tracer(torch.rand(2, 2))
        model.order = later
        with pytest.raises(InputError, match=named):
            tracer(torch.rand(2, 2), start_row=2)


def test_hooks_and_references_are_gone_whatever_happens(net):
    with pytest.raises(RuntimeError), Tracer(net, lambda event: None) as tracer:
        tracer(torch.rand(1, 5, 8, 8))
    assert n_hooks(net) == 0


def test_a_tracer_keeps_no_model_alive():
    model = nn.Sequential(nn.Linear(2, 2))
    with Tracer(model, lambda event: None) as tracer:
        tracer(torch.rand(1, 2))
    alive = weakref.ref(model)
    del model, tracer
    gc.collect()
    assert alive() is None


def test_evaluating_gives_every_module_its_mode_back(net):
    net.train()
    net.norm.eval()
    with evaluating(net):
        assert not any(module.training for module in net.modules())
        assert not net(torch.rand(1, 3, 8, 8)).requires_grad
    assert net.training and net.act.training and not net.norm.training


def test_tensors_in_names_every_tensor():
    one, two = torch.ones(1), torch.zeros(1)
    assert list(tensors_in("A", (one, None))) == [("A", one)]
    assert [name for name, _ in tensors_in("A", {"out": one, "rest": [two, 3]})] == ["A.out", "A.rest.0"]
    assert list(tensors_in("A", 3)) == []


def test_a_call_whose_error_the_model_catches_shifts_no_uid():
    class Fails(nn.Module):
        def forward(self, x):
            raise ValueError

    class Careful(nn.Module):
        def __init__(self):
            super().__init__()
            self.fails, self.good = Fails(), nn.Linear(2, 3)

        def forward(self, x):
            try:
                return self.fails(x)
            except ValueError:
                return self.good(x)

    seen = []
    with Tracer(Careful(), lambda event: seen.append((event.call.uid, event.call.path))) as tracer:
        tracer(torch.rand(1, 2))
    assert seen == [("Linear-1-2", "good"), ("Careful-0-1", "")]
