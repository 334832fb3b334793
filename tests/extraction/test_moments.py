import numpy as np
import pytest
import torch
from torchvision import models

from deepjuice.extraction.inputs import Inputs
from deepjuice.extraction.moments import Moments, row_moments
from deepjuice.extraction.passes import run_pass

CPU = torch.device("cpu")


@pytest.mark.parametrize("d", [1, 5, 4095, 4096, 4097, 802_816])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rows_against_float64(d, dtype):
    flat = (torch.relu(torch.randn(3, d, generator=torch.Generator().manual_seed(d))) + 0.1).to(dtype)
    flat[:, ::3] *= -0.5
    moments = row_moments(flat)
    assert moments.dtype == torch.float32 and moments.shape == (3, 3)
    expected = torch.stack([flat.double(), flat.double().square(), flat.double().abs()]).mean(2)
    torch.testing.assert_close(moments.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_every_map_of_a_network_has_numpys_mean_and_deviation(batch_size):
    """The oracle keeps every map whole, as cloned by plain hooks, and asks NumPy in float64."""
    torch.manual_seed(0)
    model = models.squeezenet1_1(weights=None).eval()
    x = torch.randn(5, 3, 64, 64)
    seen = {}
    hooks = [
        m.register_forward_hook(lambda m, i, o, name=name: seen.__setitem__(name, o.clone().double().numpy()))
        for name, m in model.named_modules()
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    moments = Moments(5)
    run_pass(model, Inputs.of(list(x.split(batch_size))), moments, CPU)
    table = moments.table()
    assert len(table) == len(seen)
    for row, values in zip(table.itertuples(), seen.values(), strict=True):
        np.testing.assert_allclose([row.mean, row.std], [values.mean(), values.std()], rtol=2e-5, atol=1e-7)
        assert row.n_features == values[0].size


def test_rows_heard_twice_count_once():
    moments, net, x = Moments(4), torch.nn.ReLU(), torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    for part in ([x], list(x.split(3))):
        run_pass(net, Inputs.of(part), moments, CPU)
    kept = x.relu().double()
    assert moments.table()["mean"].item() == pytest.approx(kept.mean().item(), rel=1e-6)
    assert moments.table()["std"].item() == pytest.approx(kept.std(correction=0).item(), rel=1e-6)
