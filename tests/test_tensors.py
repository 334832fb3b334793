import warnings
from collections import OrderedDict, UserDict, namedtuple

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from deepjuice.extraction import FeatureMaps
from deepjuice.tensors import apply_tensor_op, convert_to_tensor
from juicyfruits.errors import InputError

VALUES = np.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    "x",
    [
        VALUES,
        np.asfortranarray(VALUES),
        VALUES[:, ::-1][:, ::-1],
        VALUES.astype(">f8"),
        pd.DataFrame(VALUES, columns=list("abc")),
        xr.DataArray(VALUES),
        torch.from_numpy(VALUES),
        [VALUES[0], VALUES[1]],
        tuple(torch.from_numpy(VALUES)),
    ],
)
@pytest.mark.parametrize("dtype", [None, torch.float32, torch.int64])
def test_numbers_arrive_as_they_are(x, dtype):
    tensor = convert_to_tensor(x, device="cpu", dtype=dtype)
    assert tensor.dtype == (dtype or torch.float64) and tensor.shape == (2, 3)
    assert tensor.tolist() == VALUES.tolist()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int64", "float16", "float32", "complex64"])
def test_every_type_of_number_is_kept(dtype):
    column = pd.Series([0, 1, 1]).astype(dtype)
    assert convert_to_tensor(column).numpy().dtype == np.dtype(dtype)
    assert convert_to_tensor(column).tolist() == column.tolist()


def test_pythons_numbers_are_torchs():
    for x in ([[1, 2], [3, 4]], [1.5, 2.5], [], 3, 2.5, True):
        assert (
            torch.equal(convert_to_tensor(x), torch.tensor(x)) and convert_to_tensor(x).dtype == torch.tensor(x).dtype
        )


def test_a_list_of_arrays_is_not_gone_through_number_by_number():
    torch.set_warn_always(True)  # torch's warning that it would, which comes only once otherwise
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert convert_to_tensor([np.ones(3, "int16")] * 2).dtype == torch.int16
    finally:
        torch.set_warn_always(False)


def test_what_need_not_be_copied_is_not():
    tensor, array = torch.ones(3), np.ones(3)
    assert convert_to_tensor(tensor, device="cpu", dtype=torch.float32) is tensor
    convert_to_tensor(array)[0] = 5
    assert array[0] == 5


def test_what_is_read_only_or_reversed_is_copied():
    table, reversed_array = pd.DataFrame({"a": [1.0, 2.0]}), np.arange(3.0)
    convert_to_tensor(table)[0, 0] = 5
    assert table.loc[0, "a"] == 1
    frozen = np.ones(2)
    frozen.flags.writeable = False
    convert_to_tensor(frozen)[0] = 5
    assert frozen[0] == 1
    assert convert_to_tensor(reversed_array[::-1]).tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ("text", "a str: expected numbers"),
        (None, "a NoneType: expected numbers"),
        ({"a": 1}, "a dict: expected numbers"),
        (np.array(["a"]), "a ndarray with values of type <U1: expected numbers"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "datetime64"),
        (pd.DataFrame({"a": [1], "roi": ["V1"]}), "the columns 'roi' hold none"),
        ([[1, 2], [3]], "a list of 2 items: expected numbers"),
        ([torch.ones(2), torch.ones(3)], "a list of 2 items: expected numbers"),
        ([np.ones(2), np.ones(3)], "a list of 2 items: expected numbers"),
        (["a", "b"], "a list of 2 items: expected numbers"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(x, message):
    with pytest.raises(InputError, match=message):
        convert_to_tensor(x)


def test_an_unknown_device_is_refused():
    with pytest.raises(InputError, match="The device must be"):
        convert_to_tensor([1.0], device="gpu")


Pair = namedtuple("Pair", ["left", "right"])


def test_a_container_keeps_its_kind_and_nothing_in_it_changes():
    a, b = torch.ones(2), torch.full((3,), 2.0)
    nested = {"t": (a, b), "l": [a, [b]], "p": Pair(a, b), "o": OrderedDict(z=a, y=b), "u": UserDict(x=a), "e": []}
    result = apply_tensor_op(nested, lambda x, times: x.sum() * times, times=10)
    assert result["t"] == (20, 60) and type(result["t"]) is tuple
    assert result["l"] == [20, [60]]
    assert result["p"] == Pair(20, 60) and type(result["p"]) is Pair
    assert list(result["o"].items()) == [("z", 20), ("y", 60)] and type(result["o"]) is OrderedDict
    assert result["u"]["x"] == 20 and type(result["u"]) is UserDict
    assert result["e"] == []
    assert nested["t"][0] is a and nested["o"]["y"] is b and nested["u"]["x"] is a and torch.equal(a, torch.ones(2))


def test_a_tensor_alone():
    assert apply_tensor_op(torch.ones(4), torch.Tensor.to, dtype=torch.int32).dtype == torch.int32


def test_feature_maps_stay_feature_maps():
    maps = FeatureMaps({"a": torch.ones(2, 3), "b": torch.ones(2, 3)}, aliases={"b": "a"})
    half = apply_tensor_op(maps, torch.Tensor.half)
    assert type(half) is FeatureMaps and half.aliases == {"b": "a"} and half.get_input_size() == 2
    assert half["b"].dtype == torch.float16 and maps["b"].dtype == torch.float32


@pytest.mark.parametrize("wrong", [np.ones(2), 3, None, "text"])
def test_other_things_are_named_with_their_place(wrong):
    with pytest.raises(InputError, match=r"tensors\['a'\]\[1\] is of type " + type(wrong).__name__):
        apply_tensor_op({"a": [torch.ones(1), wrong]}, torch.sum)
