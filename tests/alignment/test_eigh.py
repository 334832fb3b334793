"""Eigendecompositions that fail are tried again, and say so."""

import logging

import pytest
import torch

from deepjuice.alignment import ridge_decompose
from deepjuice.alignment.linalg import eigh
from juicyfruits.errors import InputError
from tests.alignment.simulation import simulated

TRUE_EIGH = torch.linalg.eigh


def symmetric(n=6, dtype=torch.float64):
    A = torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return (A + A.T).to(dtype)


def failing(*, where, how):
    def stand_in(matrix):
        if where(matrix):
            return how(matrix)
        return TRUE_EIGH(matrix)

    return stand_in


def no_convergence(_):
    raise torch.linalg.LinAlgError("did not converge")


def not_finite(matrix):
    values, vectors = TRUE_EIGH(matrix)
    return values, vectors * torch.nan


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_the_decomposition(dtype, caplog):
    A = symmetric(dtype=dtype)
    values, vectors = eigh(A)
    assert values.dtype == vectors.dtype == dtype and not caplog.records
    torch.testing.assert_close(vectors * values @ vectors.T, A)


@pytest.mark.parametrize("how", [no_convergence, not_finite])
def test_float32_is_tried_again_in_float64(how, monkeypatch, caplog):
    monkeypatch.setattr(torch.linalg, "eigh", failing(where=lambda m: m.dtype == torch.float32, how=how))
    A = symmetric(dtype=torch.float32)
    with caplog.at_level(logging.WARNING):
        values, vectors = eigh(A)
    assert values.dtype == vectors.dtype == torch.float32
    torch.testing.assert_close(vectors * values @ vectors.T, A)
    (record,) = caplog.records
    assert "6 rows in torch.float32 on cpu failed" in record.getMessage()


@pytest.mark.parametrize("how", [no_convergence, not_finite])
def test_nothing_left_to_try_is_an_error(how, monkeypatch, caplog):
    monkeypatch.setattr(torch.linalg, "eigh", failing(where=lambda m: True, how=how))
    with pytest.raises(InputError, match="6 rows must have finite eigenvectors, but none were found"):
        eigh(symmetric(dtype=torch.float32))
    assert len(caplog.records) == 2


@pytest.mark.parametrize("shape", [(24, 60), (50, 12)], ids=["wide", "tall"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_ridge_uses_it(shape, fit_intercept, monkeypatch):
    monkeypatch.setattr(torch.linalg, "eigh", failing(where=lambda m: True, how=no_convergence))
    with pytest.raises(InputError, match="finite eigenvectors"):
        ridge_decompose(torch.tensor(simulated(*shape)[0]), fit_intercept=fit_intercept)


def test_a_device_that_fails_hands_over_to_the_cpu(monkeypatch, caplog):
    """The meta device stands in for a GPU: it holds no numbers, so that only the order of attempts can be seen."""
    tried = []

    def stand_in(matrix):
        tried.append((matrix.device.type, matrix.dtype))
        raise torch.linalg.LinAlgError

    monkeypatch.setattr(torch.linalg, "eigh", stand_in)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device, dtype: torch.empty(1, 1, device=device, dtype=dtype))
    with pytest.raises(InputError):
        eigh(torch.empty(3, 3, device="meta", dtype=torch.float32))
    assert tried == [("meta", torch.float32), ("meta", torch.float64), ("cpu", torch.float64)]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_hands_over_to_the_cpu_and_gets_the_answer_back(monkeypatch, caplog):
    monkeypatch.setattr(torch.linalg, "eigh", failing(where=lambda m: m.is_cuda, how=no_convergence))
    A = symmetric().cuda()
    values, vectors = eigh(A)
    assert values.is_cuda and len(caplog.records) == 1
    torch.testing.assert_close(vectors * values @ vectors.T, A)
