"""The adjoints of both projections against the matrices themselves, and gradients against closed forms."""

import pytest
import torch

from deepjuice.reduction import METHODS, make_projection

both_methods = pytest.mark.parametrize("method", METHODS)
SIZES = [(777, 50), (1000, 100), (101, 100), (47, 10)]


def random(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


@both_methods
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize(("d", "k"), SIZES)
def test_the_adjoint_is_the_product_with_the_matrix(method, d, k, dtype):
    projection, y = METHODS[method](d, k, seed=1), random(7, k, dtype=dtype)
    got = projection.adjoint(y)
    assert got.dtype == torch.float32 and got.shape == (7, d)
    torch.testing.assert_close(got.double(), y.double() @ projection.dense().double(), rtol=1e-5, atol=2e-5)


@both_methods
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_gradient_of_a_weighted_sum_of_squares_is_the_closed_form(method, dtype):
    """d/dx of sum_j w_j (R x)_j^2 is 2 R' (w R x), in the dtype of x, also where rows come from a transposed map."""
    projection, w = METHODS[method](777, 50, seed=1), random(50)
    x = random(777, 6, dtype=dtype).T.requires_grad_()
    (gradient,) = torch.autograd.grad((w * projection(x).square()).sum(), x)
    R = projection.dense().double()
    expected = 2 * (w * (x.detach().double() @ R.T)) @ R
    assert gradient.dtype == dtype
    close = {"rtol": 2e-2, "atol": 2e-1} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(gradient.double(), expected, **close)


@both_methods
def test_gradients_of_gradients_pass(method):
    """The Hessian of |R x|^2 / 2 is R' R."""
    projection = METHODS[method](60, 20, seed=1)
    hessian = torch.autograd.functional.hessian(lambda x: projection(x[None]).square().sum() / 2, random(60))
    R = projection.dense()
    torch.testing.assert_close(hessian, R.T @ R, rtol=1e-5, atol=1e-5)


@both_methods
def test_gradients_survive_other_maps_that_share_the_working_memory(method):
    x = random(4, 900).requires_grad_()
    projection = METHODS[method](900, 50)
    other = METHODS[method](4000, 50, scratch=projection.scratch)
    y = projection(x).square().sum()
    other(random(9, 4000))
    (gradient,) = torch.autograd.grad(y, x)
    R = projection.dense()
    torch.testing.assert_close(gradient, 2 * (x @ R.T @ R).detach(), rtol=1e-4, atol=1e-4)


def test_maps_that_stay_as_they_are_pass_their_gradients():
    x = random(3, 20).requires_grad_()
    (gradient,) = torch.autograd.grad(make_projection(20, 50)(x).square().sum(), x)
    torch.testing.assert_close(gradient, 2 * x.detach())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@both_methods
def test_the_adjoint_is_the_same_on_a_gpu(method):
    y = random(7, 50)
    there = METHODS[method](777, 50, seed=1, device="cuda").adjoint(y.cuda()).cpu()
    torch.testing.assert_close(there, METHODS[method](777, 50, seed=1).adjoint(y), rtol=1e-5, atol=1e-5)
