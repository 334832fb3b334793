"""Pooling against plain loops."""

import math

import numpy as np
import pytest
import torch

from deepjuice.reduction.pooling import pool_space, pool_to_grid, pool_tokens, tokens_to_grid
from juicyfruits.errors import InputError

MASKS = {
    "right": [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]],
    "left": [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]],
}


def random(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def pool_by_loop(tokens, how, mask):
    rows = []
    for text, marks in zip(tokens.double().numpy(), mask, strict=True):
        real = [token for token, mark in zip(text, marks, strict=True) if mark]
        rows.append({"cls": real[0], "last": real[-1], "mean": sum(real) / len(real)}[how])
    return np.array(rows)


@pytest.mark.parametrize("side", MASKS)
@pytest.mark.parametrize("how", ["cls", "mean", "last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_tokens_are_pooled_without_padding_on_either_side(how, side, dtype):
    tokens, mask = random(3, 5, 4, dtype=dtype), torch.tensor(MASKS[side])
    expected = pool_by_loop(tokens, how, MASKS[side])
    tokens[mask == 0] = math.nan  # as a softmax over nothing leaves it
    pooled = pool_tokens(tokens, how, mask)
    assert pooled.dtype == dtype and pooled.shape == (3, 4)
    np.testing.assert_allclose(pooled.double(), expected, rtol=float(torch.finfo(dtype).eps), atol=1e-6)


@pytest.mark.parametrize("kind", [torch.bool, torch.int64, torch.float32])
def test_masks_of_any_type_say_the_same_and_none_means_no_padding(kind):
    tokens = random(3, 5, 4)
    mask = torch.tensor(MASKS["right"])
    assert torch.equal(pool_tokens(tokens, "last", mask.to(kind)), pool_tokens(tokens, "last", mask))
    for how in ("cls", "mean", "last"):
        np.testing.assert_allclose(pool_tokens(tokens, how), pool_by_loop(tokens, how, np.ones((3, 5))), atol=1e-6)


def test_a_mean_over_many_half_precision_tokens_does_not_lose_its_tail():
    tokens = torch.full((1, 4096, 1), 0.1, dtype=torch.float16)
    assert pool_tokens(tokens, "mean").item() == tokens[0, 0, 0].item()


def test_the_mean_of_equal_tokens_is_that_token_to_the_bit_however_many_there_are():
    """Otherwise a layer that says the same of every text would have an RDM, made of rounding errors."""
    tokens = random(1, 1, 64).expand(40, 40, 64)
    assert torch.equal(pool_tokens(tokens, "mean", torch.ones(40, 40).tril()), tokens[:, 0])
    assert torch.equal(pool_space(random(5, 6, 1, 1).expand(5, 6, 13, 13)), random(5, 6))


def test_what_cannot_be_pooled_is_told():
    tokens = random(3, 5, 4)
    with pytest.raises(InputError, match=r"only padding in 1 rows, the first in row 1"):
        pool_tokens(tokens, "mean", torch.tensor([[1] * 5, [0] * 5, [1] * 5]))
    with pytest.raises(InputError, match=r"expected shape \[3, 5\] .* got \[3, 4\]"):
        pool_tokens(tokens, "mean", torch.ones(3, 4))
    with pytest.raises(InputError, match="'max': expected one of 'cls', 'mean', 'last'"):
        pool_tokens(tokens, "max")
    with pytest.raises(InputError, match=r"shape \(n, tokens, d\), got float32 of shape \[3, 5\]"):
        pool_tokens(tokens[..., 0])
    with pytest.raises(InputError, match="got int64"):
        pool_space(torch.ones(1, 1, 2, 2, dtype=torch.int64))
    with pytest.raises(InputError, match="expected one of 'mean', 'max'"):
        pool_space(random(1, 1, 2, 2), "median")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_places_are_pooled_as_a_loop_would(dtype):
    maps = random(2, 3, 5, 4, dtype=dtype) - 3  # so that the largest are negative too
    numbers = maps.double().numpy()
    tolerance = float(torch.finfo(dtype).eps)
    for how, function in (("mean", np.mean), ("max", np.max)):
        expected = [[function(channel) for channel in picture] for picture in numbers]
        pooled = pool_space(maps, how)
        assert pooled.dtype == dtype
        np.testing.assert_allclose(pooled.double(), expected, rtol=tolerance, atol=1e-6)


@pytest.mark.parametrize("grid", [1, 2, (3, 2), (5, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_grid_averages_its_cells(grid, dtype):
    maps = random(2, 3, 5, 4, dtype=dtype)
    rows, columns = (grid, grid) if isinstance(grid, int) else grid
    expected = np.empty((2, 3, rows, columns))
    for r in range(rows):
        for c in range(columns):
            cell = maps.double().numpy()[
                :, :, r * 5 // rows : math.ceil((r + 1) * 5 / rows), c * 4 // columns : math.ceil((c + 1) * 4 / columns)
            ]
            expected[:, :, r, c] = cell.mean((2, 3))
    pooled = pool_to_grid(maps, grid)
    assert pooled.dtype == dtype
    np.testing.assert_allclose(pooled.double(), expected, rtol=float(torch.finfo(dtype).eps), atol=1e-6)


def test_a_grid_finer_than_the_map_is_refused():
    for grid in (6, (2, 5), 0):
        with pytest.raises(InputError, match=r"to the map's 5 x 4 places"):
            pool_to_grid(random(2, 3, 5, 4), grid)


@pytest.mark.parametrize(("grid", "n_prefix"), [(None, 1), ((2, 8), 1), ((4, 4), 5), (None, 0)])
def test_patches_are_laid_out_row_by_row_without_the_tokens_in_front(grid, n_prefix):
    tokens = random(2, 16 + n_prefix, 3)
    rows, columns = grid or (4, 4)
    laid = tokens_to_grid(tokens, grid, n_prefix)
    assert laid.shape == (2, 3, rows, columns)
    for r in range(rows):
        for c in range(columns):
            assert torch.equal(laid[:, :, r, c], tokens[:, n_prefix + r * columns + c])


def test_patches_that_do_not_fill_a_grid_are_told():
    for arguments in ((None, 1), ((4, 5), 0), (None, 17), (None, -1)):
        with pytest.raises(InputError, match=r"16 tokens.*expected patches that fill a grid"):
            tokens_to_grid(random(2, 16, 3), *arguments)
