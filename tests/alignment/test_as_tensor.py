"""What counts as numbers: tables, lists and foreign arrays do, what is masked or missing does not."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from deepjuice.alignment.linalg import as_matrix, as_tensor
from juicyfruits.errors import InputError

VALUES = np.random.default_rng(0).normal(size=(4, 3))


def read_only():
    values = VALUES.copy()
    values.flags.writeable = False
    return values


NUMBERS = {
    "list": VALUES.tolist(),
    "tuples": tuple(map(tuple, VALUES)),
    "arrays": list(VALUES),
    "tensors": [torch.from_numpy(row) for row in VALUES],
    "read only": read_only(),
    "table": pd.DataFrame(VALUES),
    "named": pd.DataFrame(VALUES, columns=list("abc")),
    "big endian": VALUES.astype(">f8"),
    "backwards": VALUES[::-1].copy()[::-1],
    "no mask": np.ma.masked_array(VALUES),
    "Fortran": np.asfortranarray(VALUES),
}


@pytest.mark.parametrize("values", NUMBERS.values(), ids=NUMBERS)
def test_numbers_of_any_container_keep_all_their_digits(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matrix = as_matrix(values, "X")
    assert matrix.dtype == torch.float64
    np.testing.assert_array_equal(matrix, VALUES)


def test_nothing_is_copied_without_need_and_dtypes_stay():
    assert as_tensor(VALUES, "X").data_ptr() == VALUES.ctypes.data
    tensor = torch.zeros(2, dtype=torch.bfloat16)
    assert as_tensor(tensor, "X") is tensor
    assert as_tensor(VALUES.astype(np.float32), "X").dtype == torch.float32
    assert as_tensor([1, 2], "X").dtype == torch.int64
    np.testing.assert_array_equal(as_tensor(VALUES[::-1], "X"), VALUES[::-1].copy())


OTHERS = {
    "text": VALUES.astype(str),
    "objects": VALUES.astype(object),
    "list of text": [["1", "2"]],
    "ragged": [[1.0, 2.0], [3.0]],
    "None inside": [1.0, None],
    "None": None,
    "set": {1.0},
    "dict": {"a": [1]},
    "sparse": sparse.csr_matrix(VALUES),
    "dates": VALUES.astype("M8[s]"),
    "table of text": pd.DataFrame({"a": ["x"]}),
    "ragged tensors": [torch.ones(2), torch.ones(3)],
}


@pytest.mark.parametrize("values", OTHERS.values(), ids=OTHERS)
def test_what_is_no_numbers_is_named(values):
    with pytest.raises(InputError, match=r"^The voxels must be numbers in rows of one length"):
        as_matrix(values, "The voxels")


def test_values_that_are_not_there_are_not_made_up():
    with pytest.raises(InputError, match=r"^X must .* but 2 values are masked"):
        as_matrix(np.ma.masked_array(VALUES, np.sort(VALUES.ravel())[-2] <= VALUES), "X")
    with pytest.raises(InputError, match=r"^X must .* but it is sparse"):
        as_matrix(torch.from_numpy(VALUES).to_sparse(), "X")


def test_a_bare_number_keeps_all_its_digits():
    assert as_tensor(0.1, "Alpha").item() == 0.1
