"""The table of layers and the figures of what their values are like, against the datasets they are made of."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from deepjuice.report import write_report
from deepjuice.report.figures import model_styles
from deepjuice.report.layer_figures import CURVES, bin_position, histogram_images, layer_curves
from deepjuice.results import LAYER_COLUMNS, layer_table, read_scores, to_tidy


def test_the_table_has_every_layer_of_every_model_once(models, results):
    table = pd.read_parquet(results / "toy" / "layers.parquet")
    assert tuple(table.columns) == LAYER_COLUMNS and len(table) == sum(ds.sizes["layer"] for ds in models)
    labels = {"model_layer": "layer", "model_layer_index": "layer_index", "model_layer_depth": "layer_depth"}
    for ds in models:
        rows = table[table.model_uid == ds.attrs["model_uid"]]
        for column in LAYER_COLUMNS[1:]:
            assert rows[column].tolist() == ds[labels.get(column, column)].values.tolist(), column
        pd.testing.assert_frame_equal(layer_table(ds), rows.reset_index(drop=True))


def test_histograms_reach_the_aggregate_whole(models, results):
    merged = read_scores(results / "toy" / "scores.nc")
    assert merged["activation_histogram"].dtype == np.int64
    for ds in models:
        own = merged["activation_histogram"].values[merged["model_uid"].values == ds.attrs["model_uid"]]
        assert np.array_equal(own, ds["activation_histogram"])
    assert np.array_equal(merged["bin_low"], models[0]["bin_low"])


@pytest.fixture
def merged(results):
    return read_scores(results / "toy" / "scores.nc")


def test_curves_are_the_table(merged):
    tidy, styles = to_tidy(merged), model_styles(merged["model"].values.tolist())
    figure = layer_curves(merged, tidy, "eRSA", styles)
    table = layer_table(merged)
    assert [axes.get_title("left") for axes in figure.axes] == ["eRSA on test", *CURVES.values()]
    for axes, name in zip(figure.axes, ["score", *CURVES], strict=True):
        drawn = {line.get_label(): line.get_xydata() for line in axes.lines}
        assert set(drawn) == set(styles)
        for model, points in drawn.items():
            rows = table[table.model_uid == model]
            expected = rows.get(name)
            if name == "score":
                own = merged.isel(layer=np.flatnonzero(merged["model_uid"].values == model))
                expected = np.nanmean(own["score"].sel(metric="eRSA", split="test").values, axis=(1, 2))
            np.testing.assert_allclose(points, np.column_stack([rows.model_layer_depth, expected]), rtol=1e-6)


def test_images_show_the_nearest_layers_shares(merged):
    models = merged["model"].values.tolist()
    for axes, model in zip(histogram_images(merged, models).axes, models, strict=True):
        own = merged.isel(layer=np.flatnonzero(merged["model_uid"].values == model))
        image = axes.images[0].get_array()
        np.testing.assert_allclose(image.sum(axis=0), 1)
        counts = own["activation_histogram"].values
        for column in (0, 57, 130, 199):
            layer = np.abs(own["layer_depth"].values - (column + 0.5) / 200).argmin()
            np.testing.assert_allclose(image[:, column], counts[layer] / counts[layer].sum())
        lines = {line.get_label(): line.get_ydata() for line in axes.lines}
        np.testing.assert_allclose(lines["mean"], 3 + 0.5)  # 0.5 lies in the middle of the bin from 0 to 1
        assert (lines["_low"] < lines["mean"]).all() and (lines["_high"] > lines["mean"]).all()


def test_bins_are_of_one_height_and_what_is_beyond_stays_at_the_end():
    edges = np.array([-np.inf, -4, -1, 1, 4, np.inf])
    values = np.array([-99, -4, -2.5, -1, 0, 1, 2.5, 4, 99])
    assert bin_position(values, edges).tolist() == [1, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4]


def test_the_page_shows_and_explains_them(results, tmp_path):
    text = write_report(results / "toy", tmp_path / "page.html").read_text(encoding="utf-8")
    section = text.split("What the layers' values are like</h3>")[1].split("</section>")[0]
    assert section.count("<svg") == 2 and section.count("data:image/png;base64") == 3  # a network each
    for words in ("eReg on test is the mean", "Treves &amp; Rolls (1991)", "Hoyer (2004)", "one standard deviation"):
        assert words in section
    assert "layers.parquet" in text
