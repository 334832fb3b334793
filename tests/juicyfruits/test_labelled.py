"""The labelled array against the tables and the raw array, cell by cell; and the grid of pictures."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from folders import edit, rdm_folder
from matplotlib import pyplot

from juicyfruits import Benchmark, InputError


@pytest.fixture
def brain(own_folder):
    """Neurons a, b, c, d: c lies in V4 and in the smaller V4c, d in none but IT; s2 has no third repeat at all."""
    responses = np.load(own_folder / "responses.npy")
    responses[:, 2, 2] = np.nan
    responses[3, 4, 1] = np.nan
    np.save(own_folder / "responses.npy", responses)
    edit(own_folder, "neuroids.csv", lambda t: t.assign(roi_V4c=[0, 0, 1, 0], roi_IT=[0, 0, 0, 1], kind="cell"))
    edit(own_folder, "stimuli.csv", lambda t: t.assign(kind=list("xyxyxy"), size=range(6)))
    return Benchmark(own_folder)


def test_every_presentation_is_there(brain):
    array = brain.to_xarray()
    assert array.dims == ("presentation", "neuroid") and array.dtype == np.float32
    shown = list(zip(array["stimulus_id"].values, array["repetition"].values, strict=True))
    assert shown == [(f"s{i}", k) for i in range(6) for k in range(3) if (i, k) != (2, 2)]
    for row, (stimulus, repetition) in enumerate(shown):
        expected = brain.responses[:, int(stimulus[1]), repetition]
        np.testing.assert_array_equal(array[row], expected)
    assert np.isnan(array.sel(stimulus_id="s4", neuroid_id="d").values).tolist() == [False, True, False]


def test_coordinates_are_the_tables(brain):
    array = brain.to_xarray()
    stimulus = [int(name[1]) for name in array["stimulus_id"].values]
    assert list(array["size"].values) == stimulus
    assert list(array["split"].values) == [["train", "test"][i % 2] for i in stimulus]
    assert list(array["stimulus_kind"].values) == ["xy"[i % 2] for i in stimulus]
    assert list(array["kind"].values) == ["cell"] * 4
    assert list(array["neuroid_id"].values) == list("abcd")
    assert list(array["subject"].values) == ["m1", "m1", "m2", "m2"]
    assert list(array["region"].values) == ["V4", "V4", "V4c", "IT"]
    assert list(array["roi_V4"].values) == [True, True, True, False] and array["roi_V4"].dtype == bool
    np.testing.assert_allclose(array["ncsnr"], brain.metadata["ncsnr"])
    assert array.attrs == {"name": "own", "digest": brain.digest, "source": ""}


def test_averages(brain):
    array = brain.to_xarray(average=True)
    np.testing.assert_array_equal(array, brain.response_data.T)
    np.testing.assert_array_equal(array["n_repeats"], brain.repeats().T)
    assert list(array["stimulus_id"].values) == [f"s{i}" for i in range(6)] and "repetition" not in array.coords


def test_it_can_be_saved(brain, tmp_path):
    array = brain.to_xarray()
    array.reset_index(["stimulus_id", "neuroid_id"]).to_netcdf(tmp_path / "a.nc")
    with xr.open_dataarray(tmp_path / "a.nc") as read:
        np.testing.assert_array_equal(read, array)
        assert list(read["region"].values) == ["V4", "V4", "V4c", "IT"]


def test_regions_of_any_name_can_be_saved(own_folder, tmp_path):
    """Expressions such as `IT & !V4`: netCDF takes none of their signs, and two may become one name."""
    flags = {"roi_IT & !V4": [0, 0, 0, 1], "roi_IT | V4": [1, 1, 1, 0], "roi_aIT-1": [1, 0, 0, 0]}
    edit(own_folder, "neuroids.csv", lambda t: t.drop(columns=["roi_V4", "roi_IT"]).assign(**flags))
    array = Benchmark(own_folder).to_xarray().reset_index(["stimulus_id", "neuroid_id"])
    array.to_netcdf(tmp_path / "a.nc")
    with xr.open_dataarray(tmp_path / "a.nc") as read:
        for name, expected in zip(("roi_IT_V4", "roi_IT_V4_2", "roi_aIT-1"), flags.values(), strict=True):
            assert list(read[name].values) == expected
        assert list(read["region"].values) == ["aIT-1", "IT | V4", "IT | V4", "IT & !V4"]


def test_rdms_have_no_presentations(tmp_path):
    with pytest.raises(InputError, match="holds RDMs only"):
        Benchmark(rdm_folder(tmp_path / "k", IT=1 - np.eye(6))).to_xarray()


@pytest.mark.parametrize(
    "chosen, shown",
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"n": 3}, [0, 2, 5]),
        ({"n": 1}, [0]),
        ({"indices": [4, "s1"]}, [4, 1]),
        ({"indices": np.array([5])}, [5]),
    ],
)
def test_pictures_are_shown_with_their_ids(brain, chosen, shown):
    figure = brain.plot_stimuli(**chosen)
    axes = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title() for ax in axes] == [f"s{i}" for i in shown]
    for ax, row in zip(axes, shown, strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), np.asarray(brain.get_stimulus(row)))
    assert not any(ax.axison for ax in figure.axes) and pyplot.get_fignums() == []


@pytest.mark.parametrize(
    "chosen, message",
    [
        ({"indices": []}, "no stimuli to plot"),
        ({"indices": [6]}, "no stimulus 6 in"),
        ({"indices": [1.5]}, "by its row number or its stimulus_id, but 1.5 is neither"),
        ({"indices": 3}, "indices must be a list of row numbers or stimulus_ids, but is 3"),
        ({"indices": "s1"}, "indices must be a list of row numbers or stimulus_ids, but is 's1'"),
        ({"n": 0}, "n must be a whole number of pictures, 1 or more, but is 0"),
        ({"n": -1}, "1 or more, but is -1"),
        ({"n": 2.5}, "1 or more, but is 2.5"),
    ],
)
def test_pictures_that_are_not_there(brain, chosen, message):
    with pytest.raises(InputError, match=message):
        brain.plot_stimuli(**chosen)


def test_ids_of_any_kind_are_text(own_folder):
    edit(own_folder, "stimuli.csv", lambda t: t.assign(note=["a", None, "b", None, "c", "d"]))
    array = Benchmark(own_folder).to_xarray(average=True)
    assert array["stimulus_id"].dtype.kind == "U" and pd.isna(array["note"].values[1])
