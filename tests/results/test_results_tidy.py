from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from deepjuice.results import (
    BEST_COLUMNS,
    TIDY_COLUMNS,
    UndefinedScores,
    best_layers,
    get_results_max,
    mean_over_subjects,
    to_tidy,
)
from juicyfruits.errors import InputError


def rows_by_loop(ds):
    """A plain loop over all cells, with its own statement of which exist."""
    rows = []
    for i, layer in enumerate(ds.layer.values):
        for metric in ds.metric.values:
            for region in ds.region.values:
                for subject in ds.subject.values:
                    if "neuroid" in ds.dims:
                        own = ds.neuroid_subject.values == subject
                        if not ds.neuroid_in_region.sel(region=region).values[own].any():
                            continue
                    for split in ds.split.values:
                        if split == "all" and metric in ("eReg", "eRSA"):
                            continue
                        at = {"metric": metric, "region": region, "subject": subject, "split": split}
                        of_cell = ("score", "score_normalized", "ci_low", "ci_high", "p_value", "p_max")
                        numbers = [float(ds[n].sel(layer=layer, **at)) for n in of_cell]
                        numbers.insert(4, "stimuli")
                        numbers += [float(ds.ceiling.sel(at)), float(ds.ceiling_low.sel(at))]
                        numbers.append(float(ds.effective_dimensionality[i]))
                        depth = float(ds.layer_depth[i])
                        names = [ds.attrs["model_uid"], layer, int(ds.layer_index[i]), depth, metric, region]
                        rows.append([*names, subject, split, *numbers])
    return pd.DataFrame(rows, columns=list(TIDY_COLUMNS))


@pytest.mark.parametrize("rdm_only", [False, True])
def test_tidy_equals_a_loop_over_cells(make, rdm_only):
    ds = make(rdm_only=rdm_only, missing_pairs=() if rdm_only else (("V4", "subj02"),))
    pd.testing.assert_frame_equal(to_tidy(ds), rows_by_loop(ds), check_dtype=False)


def test_tidy_does_not_depend_on_the_order_of_dims(make):
    ds = make()
    turned = ds.assign(score=ds["score"].transpose(...), ceiling=ds["ceiling"].transpose("split", "subject", ...))
    pd.testing.assert_frame_equal(to_tidy(turned), to_tidy(ds))


def test_an_undefined_score_keeps_its_row(make):
    ds = make().copy(deep=True)
    at = {"metric": "cRSA", "layer": "Conv2d-1-3", "region": "V1", "subject": "subj02"}
    ds["score"].loc[at] = np.nan
    tidy = to_tidy(ds)
    assert len(tidy) == len(to_tidy(make()))
    undefined = tidy[tidy.score.isna()]
    assert undefined.cv_split.tolist() == ["train", "test", "all"]
    assert set(undefined.model_layer) == {"Conv2d-1-3"} and set(undefined.subj_id) == {"subj02"}


def table(scores: dict[str, tuple[float, float]], **columns) -> pd.DataFrame:
    """{layer: (train, test)} as tidy rows of one cell."""
    rows = [
        {"model_uid": "m", "model_layer": layer, "model_layer_index": i, "model_layer_depth": i / len(scores)}
        | {"metric": "eReg", "region": "V1", "subj_id": "s", "cv_split": split, "score": score}
        | {"score_normalized": score / 0.8, "ci_low": np.nan, "ci_high": np.nan, "ci_over": "stimuli"}
        | {"p_value": np.nan, "p_max": np.nan, "ceiling": 0.8, "ceiling_low": 0.7, "effective_dimensionality": 9.0}
        | columns
        for i, (layer, pair) in enumerate(scores.items())
        for split, score in zip(("train", "test"), pair, strict=True)
    ]
    return pd.DataFrame(rows)


def test_best_layer_is_chosen_on_train_and_reported_on_test():
    best = best_layers(table({"early": (0.2, 0.9), "chosen": (0.6, 0.3), "late": (0.5, 0.7)}))
    assert tuple(best.columns) == BEST_COLUMNS and len(best) == 1
    row = best.iloc[0]
    assert (row.model_layer, row.model_layer_index) == ("chosen", 1)
    assert (row.score_train, row.score_test, row.ceiling) == (0.6, 0.3, 0.8)
    assert row.score_normalized == pytest.approx(0.3 / 0.8)


def test_best_layers_against_pandas_by_hand(models):
    tidy = pd.concat([to_tidy(ds) for ds in models], ignore_index=True)
    best = best_layers(tidy)
    assert len(best) == 3 * 3 * 7  # models, metrics, measured pairs of region and subject
    for row in best.itertuples():
        cell = tidy[(tidy.model_uid == row.model_uid) & (tidy.metric == row.metric)]
        cell = cell[(cell.region == row.region) & (cell.subj_id == row.subj_id)]
        train, test = (cell[cell.cv_split == s].set_index("model_layer") for s in ("train", "test"))
        assert row.model_layer == train.score.idxmax()
        assert row.score_train == train.score.max()
        assert row.score_test == test.score[row.model_layer]
        assert row.score_normalized == test.score_normalized[row.model_layer]


def test_undefined_scores_do_not_win_and_do_not_vanish():
    undefined_first = best_layers(table({"a": (np.nan, 0.9), "b": (0.1, 0.2), "c": (0.3, np.nan)}))
    assert undefined_first.model_layer.tolist() == ["c"] and undefined_first.score_test.isna().all()
    nothing = best_layers(table({"a": (np.nan, 0.9), "b": (np.nan, 0.2)}))
    assert len(nothing) == 1 and nothing.region.tolist() == ["V1"]
    assert nothing[["model_layer", "model_layer_index", "score_train", "score_test"]].isna().all(axis=None)


@pytest.mark.parametrize("order", [1, -1])
def test_of_equal_layers_the_first_in_the_network_is_taken(order):
    rows = table({"a": (0.1, 0.1), "b": (0.5, 0.2), "c": (0.5, 0.9), "d": (0.5, 0.3)})[::order]
    assert best_layers(rows).model_layer.tolist() == ["b"]
    by_rows = get_results_max(rows.drop(columns="model_layer_index"), "score", ["region"], ["model_layer"])
    assert set(by_rows.model_layer) == {"b" if order == 1 else "d"}


def test_get_results_max_returns_every_split_of_the_choice_in_the_given_order():
    two = pd.concat([table({"a": (0.1, 0.9), "b": (0.2, 0.3)}), table({"a": (0.8, 0.4), "b": (0.2, 0.6)}, region="V2")])
    two.index = range(10, 18)
    best = get_results_max(two, "score", ["region"], ["model_layer"], criterion={"cv_split": "train"})
    assert best.index.tolist() == [12, 13, 14, 15]
    assert best.columns.tolist() == two.columns.tolist()
    assert best.model_layer.tolist() == ["b", "b", "a", "a"]
    on_test = get_results_max(two, "score", ["region"], "model_layer", criterion={"cv_split": "test"})
    assert on_test.model_layer.tolist() == ["a", "a", "b", "b"]


def test_get_results_max_ignores_criterion_columns_in_the_group():
    rows = table({"a": (0.1, 0.9), "b": (0.2, 0.3)})
    best = get_results_max(rows, "score", ["region", "cv_split"], ["model_layer"])
    assert best.model_layer.tolist() == ["b", "b"] and best.cv_split.tolist() == ["train", "test"]


def test_get_results_max_averages_what_the_group_does_not_tell_apart():
    one = table({"a": (0.9, 0.0), "b": (0.6, 0.0), "c": (0.0, 0.0)}, subj_id="s1")
    other = table({"a": (0.0, 0.0), "b": (0.5, 0.0), "c": (0.8, 0.0)}, subj_id="s2")
    best = get_results_max(pd.concat([one, other], ignore_index=True), "score", ["region"], ["model_layer"])
    assert set(best.model_layer) == {"b"} and set(best.subj_id) == {"s1", "s2"} and len(best) == 4


def test_get_results_max_over_models_and_layers_with_filters():
    both = pd.concat([table({"a": (0.9, 0.1)}), table({"a": (0.4, 0.2), "b": (0.5, 0.3)}, model_uid="n")])
    best = get_results_max(both, "score", [], ["model_uid", "model_layer"])
    assert set(zip(best.model_uid, best.model_layer, strict=True)) == {("m", "a")}
    best = get_results_max(both, "score", [], ["model_uid", "model_layer"], filters={"model_uid": ["n"]})
    assert set(zip(best.model_uid, best.model_layer, strict=True)) == {("n", "b")}
    best = get_results_max(both, "score", ["model_uid"], ["model_layer"], filters={"model_layer": "a"})
    assert sorted(set(zip(best.model_uid, best.model_layer, strict=True))) == [("m", "a"), ("n", "a")]
    with pytest.raises(InputError, match="differ in 'model_uid' would be averaged"):
        get_results_max(both, "score", ["region"], ["model_layer"])


def test_get_results_max_counts_groups_without_a_choice():
    rows = pd.concat([table({"a": (np.nan, 0.2)}), table({"a": (0.1, 0.2)}, region="V2")], ignore_index=True)
    with pytest.warns(UndefinedScores, match="1 of 2 groups have no defined 'score'"):
        best = get_results_max(rows, "score", ["region"], ["model_layer"])
    assert set(best.region) == {"V2"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        get_results_max(rows, "score", ["region"], ["model_layer"], filters={"region": "V2"})


def test_get_results_max_names_unknown_columns():
    rows = table({"a": (0.1, 0.2)})
    with pytest.raises(InputError, match="no column 'model_layr'; did you mean 'model_layer'"):
        get_results_max(rows, "score", ["region"], ["model_layr"])
    with pytest.raises(InputError, match="no column 'split'"):
        get_results_max(rows, "score", ["region"], ["model_layer"], criterion={"split": "train"})


def test_mean_over_subjects(make):
    tidy = to_tidy(make())
    means = mean_over_subjects(tidy)
    assert tuple(means.columns) == TIDY_COLUMNS and set(means.subj_id) == {"mean"}
    at = (
        (tidy.model_layer == "Conv2d-1-4") & (tidy.metric == "cRSA") & (tidy.region == "OTC") & (tidy.cv_split == "all")
    )
    mean = means.merge(tidy[at][["model_layer", "metric", "region", "cv_split"]].drop_duplicates())
    assert mean.score.item() == pytest.approx(tidy[at].score.sum() / 2)
    assert mean.ceiling.item() == pytest.approx(tidy[at].ceiling.sum() / 2)
    lonely = tidy[(tidy.region == "V4") & (tidy.cv_split == "test")]
    assert set(lonely.subj_id) == {"subj01"}
    assert means[(means.region == "V4") & (means.cv_split == "test")].score.tolist() == lonely.score.tolist()
