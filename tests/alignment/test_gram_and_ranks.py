"""Gram matrices from blocks of columns, and ranks, against NumPy and scipy."""

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from deepjuice.alignment.linalg import average_ranks, blocks, row_gram


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (4, 50), (7, 9), (20, 20), (50, 3), (130, 700), (131, 9)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [1, 7, 10_000])
def test_gram_equals_the_product(shape, dtype, width):
    X = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    before = X.clone()
    gram = row_gram(X[:, columns] for columns in blocks(shape[1], 1, width))
    assert gram.dtype == dtype and torch.equal(gram, gram.T) and torch.equal(X, before)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-4
    np.testing.assert_allclose(
        gram, np.einsum("ik,jk->ij", *[X.double().numpy()] * 2), rtol=0, atol=tolerance * shape[1]
    )


def test_gram_of_a_transposed_and_of_a_strided_block():
    X = torch.randn(40, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    np.testing.assert_allclose(row_gram([X.T]), X.T.numpy() @ X.numpy(), atol=1e-12)
    np.testing.assert_allclose(row_gram([X[:, ::3]]), X[:, ::3].numpy() @ X[:, ::3].numpy().T, atol=1e-12)


def rows(kind, dtype):
    rng = np.random.default_rng(0)
    values = {
        "different": rng.normal(size=(4, 33)),
        "tied": rng.integers(0, 4, size=(4, 33)),
        "some tied": np.concatenate([rng.normal(size=(2, 33)), rng.integers(-1, 2, size=(2, 33))]),
        "equal": np.full((4, 33), 0.1),
        "signed zeros": np.where(rng.random((4, 33)) < 0.5, -0.0, 0.0),
        "one": rng.normal(size=(4, 1)),
    }[kind]
    return torch.tensor(values).to(dtype)


@pytest.mark.parametrize("kind", ["different", "tied", "some tied", "equal", "signed zeros", "one"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_ranks_equal_scipy(kind, dtype):
    values = rows(kind, dtype)
    wide = values.double().numpy()
    np.testing.assert_array_equal(average_ranks(values), rankdata(wide, axis=1))
    np.testing.assert_array_equal(average_ranks(values, dim=0), rankdata(wide, axis=0))
    np.testing.assert_array_equal(average_ranks(values[0]), rankdata(wide[0]))
    assert average_ranks(values).dtype == torch.float64


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    X = torch.randn(130, 700, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gram = row_gram([X.cuda()[:, :300], X.cuda()[:, 300:]])
    assert gram.is_cuda and torch.equal(gram, gram.T)
    torch.testing.assert_close(gram.cpu(), row_gram([X]), rtol=1e-12, atol=1e-10)
    for kind in ("different", "some tied"):
        values = rows(kind, torch.float64)
        torch.testing.assert_close(average_ranks(values.cuda()).cpu(), average_ranks(values), rtol=0, atol=0)
