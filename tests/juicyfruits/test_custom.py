"""NSDBenchmarkCustom: three tables in any order, and what is said of those that do not fit."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from juicyfruits import InputError, NSDBenchmarkCustom, write_benchmark

NAMES = [f"coco{i}.png" for i in (7, 3, 9, 1, 5, 2, 8)]
VOXELS = ["S1-1-2-3", "S1-1-2-4", "S2-5-5-5"]
VALUES = np.random.default_rng(0).standard_normal((3, 7)).round(3).astype(np.float32)
METAS = pd.DataFrame(
    {"subj_id": [1, 1, 2], "ncsnr": [0.3, 0.5, 0.4], "EVC": [1, 0, 1], "OTC": [0, 1, 0], "FFA-1": [0, 0, 0]},
    index=pd.Index(VOXELS, name="voxel_id"),
)
KEYS = ["subj_id", "ncsnr"]


@pytest.fixture
def tables(tmp_path):
    """The tables as scripts keep them: voxels of the metadata and pictures of the stimuli in orders of their own."""
    betas = pd.DataFrame(VALUES, index=METAS.index, columns=NAMES)
    stimuli = pd.DataFrame({"image_name": NAMES, "nsd_id": range(7)}).iloc[::-1]
    images = tmp_path / "shared"
    images.mkdir()
    for i, name in enumerate(NAMES):
        Image.new("RGB", (4, 4), (i, i, i)).save(images / name)
    return {"response_data": betas.iloc[::-1], "response_meta": METAS.copy(), "stimulus_data": stimuli}


def saved(tables, folder, suffix="csv"):
    paths = {name: folder / f"{name}.{suffix}" for name in tables}
    for name, table in tables.items():
        getattr(table, f"to_{suffix}")(paths[name], index=name != "stimulus_data")
    return paths


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_become_a_benchmark(tables, tmp_path, suffix):
    b = NSDBenchmarkCustom(saved(tables, tmp_path, suffix), metadata_keys=KEYS)
    np.testing.assert_array_equal(b.response_data, VALUES)
    assert list(b.response_data.index) == VOXELS and list(b.response_data.columns) == NAMES
    assert list(b.stimulus_data["image_name"]) == NAMES and list(b.stimulus_data["nsd_id"]) == list(range(7))
    assert b.rois == ["EVC", "OTC"] and b.subjects == ["1", "2"] and list(b.metadata["ncsnr"]) == [0.3, 0.5, 0.4]
    assert {roi: {s: list(i) for s, i in by.items()} for roi, by in b.get_roi_indices().items()} == {
        "EVC": {"1": [0], "2": [2]},
        "OTC": {"1": [1]},
    }
    rdms = b.build_rdms(lambda X: np.abs(X[:, :1] - X[:, 0]))
    np.testing.assert_array_equal(rdms["OTC"]["1"], np.abs(VALUES[1][:, None] - VALUES[1]))
    np.testing.assert_array_equal(b.to_xarray().sel(stimulus_id="coco9.png").values, VALUES[:, 2])
    np.testing.assert_array_equal(b.subset(rois="EVC", ncsnr=0.35).response_data, VALUES[2:])


def test_pictures_are_added(tables, tmp_path):
    b = NSDBenchmarkCustom(saved(tables, tmp_path), KEYS)
    with pytest.raises(InputError, match=r"has no pictures yet; call add_image_data\(image_root\)"):
        _ = b.image_paths
    without = b.digest
    b.add_image_data(image_root=tmp_path / "shared")
    assert b.image_paths == [str(tmp_path / "shared" / name) for name in NAMES] and b.digest != without
    assert [b.get_stimulus(i).getpixel((0, 0))[0] for i in range(7)] == list(range(7))
    (tmp_path / "shared" / NAMES[3]).unlink()
    with pytest.raises(InputError, match=r"shared lacks 1 of 7 pictures: 'coco1\.png'"):
        b.add_image_data(tmp_path / "shared")
    with pytest.raises(InputError, match="the stimuli have no column 'image'"):
        b.add_image_data(tmp_path / "shared", image_key="image")


def test_it_is_saved_for_the_workflow(tables, tmp_path):
    b = NSDBenchmarkCustom(saved(tables, tmp_path), KEYS)
    b.add_image_data(tmp_path / "shared")
    folder = b.save(tmp_path / "mine")
    neuroids = METAS.assign(neuroid_id=VOXELS, subject=["1", "1", "2"]).rename(
        columns={"EVC": "roi_EVC", "OTC": "roi_OTC"}
    )
    expected = write_benchmark(
        tmp_path / "expected",
        pd.DataFrame({"stimulus_id": NAMES}),
        [tmp_path / "shared" / name for name in NAMES],
        neuroids=neuroids.drop(columns="FFA-1"),
        responses=VALUES,
    )
    pd.testing.assert_frame_equal(folder.response_data, expected.response_data)
    assert (
        folder.stimulus_digest == expected.stimulus_digest and folder.roi_indices.keys() == expected.roi_indices.keys()
    )


@pytest.mark.parametrize("labels", [list("0123456"), list(range(7))])
def test_columns_may_be_row_numbers(tables, tmp_path, labels):
    tables["response_data"].columns = labels
    with pytest.raises(InputError, match="are those of 'nsd_id' and of 'row number', in other orders"):
        NSDBenchmarkCustom(saved(tables, tmp_path), KEYS)
    tables["stimulus_data"] = tables["stimulus_data"].drop(columns="nsd_id")
    b = NSDBenchmarkCustom(saved(tables, tmp_path), KEYS)
    np.testing.assert_array_equal(b.response_data, VALUES)
    assert list(b.stimulus_data["image_name"]) == NAMES[::-1]  # as its rows stand


def test_ids_without_a_name_are_the_first_column(tables, tmp_path):
    for name in ("response_data", "response_meta"):
        tables[name].index = pd.Index([f"0{voxel[-1]}" for voxel in tables[name].index])
    b = NSDBenchmarkCustom(saved(tables, tmp_path), KEYS)
    assert list(b.metadata.index) == ["03", "04", "05"]
    np.testing.assert_array_equal(b.response_data, VALUES)


def change(table, **columns):
    return lambda tables: tables.update({table: tables[table].assign(**columns)})


def drop(table, **what):
    return lambda tables: tables.update({table: tables[table].drop(**what)})


def with_nan(tables):
    tables["response_data"].iloc[0, 0] = np.nan


@pytest.mark.parametrize(
    "spoil, keys, message",
    [
        (drop("response_meta", index=VOXELS[0]), KEYS, r"and response_meta.csv must name the same ids .*'S1-1-2-3'"),
        (
            drop("stimulus_data", index=0),
            KEYS,
            r"stimulus_data.csv: no column holds the stimuli that the responses name",
        ),
        (change("stimulus_data", image_name="x"), KEYS, r"no column holds the stimuli .* its 7 rows have 'image_name'"),
        (change("response_meta", EVC=[3, 0, 1]), KEYS, r"'EVC' must hold true/false .*; if it is no ROI, name it"),
        (change("response_meta", ncsnr=-1), KEYS, "'ncsnr' must be 0 or more"),
        (change("response_meta", EVC=0, OTC=0), KEYS, "has no ROI columns with voxels besides 'subj_id', 'ncsnr'"),
        (change("stimulus_data", split="dev"), KEYS, "'split' must hold train or test"),
        (with_nan, KEYS, "an infinite value or a stimulus without any repeat: 'S2-5-5-5'"),
        (change("response_meta", subj_id=["1", None, "2"]), KEYS, "'subj_id' must name .* is empty for 'S1-1-2-4'"),
        (change("response_meta", subj_id=[1, np.nan, 2]), KEYS, "'subj_id' must name .* is empty for 'S1-1-2-4'"),
        (lambda tables: None, [], "metadata_keys must have subject or subj_id, but are empty$"),
        (lambda tables: None, ["ncsnr"], "metadata_keys must have subject or subj_id, but are 'ncsnr'"),
        (lambda tables: None, [*KEYS, "area"], "lacks the column 'area' of metadata_keys"),
    ],
)
def test_tables_that_do_not_fit(tables, tmp_path, spoil, keys, message):
    spoil(tables)
    with pytest.raises(InputError, match=message) as error:
        NSDBenchmarkCustom(saved(tables, tmp_path), keys)
    assert "\n" not in str(error.value)


def test_files_that_are_not_there(tables, tmp_path):
    paths = saved(tables, tmp_path)
    with pytest.raises(
        InputError, match="must name response_data, response_meta, stimulus_data, but names response_data"
    ):
        NSDBenchmarkCustom({"response_data": paths["response_data"]}, KEYS)
    paths["response_meta"].unlink()
    with pytest.raises(InputError, match=r"response_meta.csv cannot be read as a table"):
        NSDBenchmarkCustom(paths, KEYS)
