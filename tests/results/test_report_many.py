"""The page of more networks than it can draw, against choices made by hand."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from deepjuice.report import write_report
from deepjuice.report.figures import depth_curves
from deepjuice.report.shown import best_on_train, leading_networks, read_shown
from deepjuice.results import best_table, read_scores, to_tidy
from juicyfruits.errors import InputError

N, N_DRAWN, N_ROWS = 9, 4, 6


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Nine networks are many here."""
    monkeypatch.setattr("deepjuice.report.shown.MAX_NETWORKS", N_DRAWN)
    monkeypatch.setattr("deepjuice.report.page.MAX_ROWS", N_ROWS)
    monkeypatch.setattr("deepjuice.report.shown.LAYERS_AT_ONCE", 5)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A folder with nine networks, aggregated; one score is undefined."""
    from conftest import build, make_scores  # as the fixtures of this folder do

    made = []
    for number in range(N):
        uid = f"net_{number}"
        ds = make_scores(uid, 3, regions=("NA", "OTC"), missing_pairs=(), amplitude=0.3 + 0.03 * (number * 7 % N))
        made.append(ds.copy(deep=True))
    made[7]["score"].loc[{"metric": "cRSA", "layer": "Conv2d-1-2", "region": "OTC", "subject": "subj01"}] = np.nan
    folder = tmp_path_factory.mktemp("many")
    build(made, folder)
    return folder / "toy"


@pytest.fixture(scope="module")
def best(many):
    ds = read_scores(many / "scores.nc")
    return best_table(ds, to_tidy(ds))


def test_those_that_lead_in_any_metric_are_drawn(many, best):
    shown = read_shown(many)
    means = best[best.subj_id == "mean"].groupby(["model_uid", "metric"]).score_train.mean().unstack()
    rank = means.rank(ascending=False).min(axis=1)
    assert len(shown.drawn) == len(set(shown.drawn)) == N_DRAWN
    assert rank[shown.drawn].max() <= rank.drop(shown.drawn).min()
    assert [rank[uid] for uid in shown.drawn] == sorted(rank[shown.drawn])
    assert set(shown.ds["model"].values) == set(shown.tidy.model_uid) == set(shown.drawn)
    assert shown.is_part and shown.sizes == {"model": N, "layer": 3 * N, "region": 2, "subject": 2}
    assert (shown.n_scores, shown.n_undefined) == (N * 3 * 2 * 2 * 7, 3)
    whole = to_tidy(read_scores(many / "scores.nc"))
    expected = whole[whole.model_uid.isin(shown.drawn)].reset_index(drop=True)
    pd.testing.assert_frame_equal(shown.tidy, expected)


def test_leading_networks_takes_the_first_of_every_metric_first():
    scores = {"x": {"a": 0.9, "b": 0.5, "c": 0.1, "d": np.nan}, "y": {"a": 0.1, "b": 0.2, "c": 0.9, "d": 0.3}}
    rows = [
        {"model_uid": uid, "metric": metric, "region": region, "subj_id": "mean", "score_train": score + add}
        for metric, of_models in scores.items()
        for uid, score in of_models.items()
        for region, add in (("V1", 0.05), ("V2", -0.05))
    ]
    assert leading_networks(pd.DataFrame(rows), 3) == ["a", "c", "b"]
    assert leading_networks(pd.DataFrame(rows), 9) == ["a", "c", "b", "d"]


def test_tables_list_the_best_of_every_region_on_train(many, best, tmp_path):
    text = write_report(many, tmp_path / "page.html").read_text(encoding="utf-8")
    section = text.split("<h3>Classical RSA (cRSA)</h3>")[1].split("</section>")[0]
    rows = re.findall(r"<tr[ >].*?</tr>", section)[1:]
    assert len(rows) == 2 * N_ROWS
    means = best[(best.subj_id == "mean") & (best.metric == "cRSA")].set_index("region")
    for region, of_region in zip(("NA", "OTC"), (rows[:N_ROWS], rows[N_ROWS:]), strict=True):
        assert f">{region}<" in of_region[0]
        expected = means.loc[region].sort_values("score_train", ascending=False).head(N_ROWS)
        for row, best_row in zip(of_region, expected.itertuples(), strict=True):
            assert best_row.model_uid in row and f"{best_row.score_test:.3f}" in row
    assert sum("<b>" in row for row in rows) == 2  # the best on test of each region's rows


def test_the_page_says_what_it_leaves_out(many, tmp_path, monkeypatch):
    assert "every two networks" in write_report(many, tmp_path / "page.html").read_text(encoding="utf-8")
    monkeypatch.setattr("deepjuice.report.page.MAX_ALL_PAIRS", 8)
    text = write_report(many, tmp_path / "page.html").read_text(encoding="utf-8")
    drawn = read_shown(many).drawn
    assert "Of 9 networks the figures show 4" in text and "the 6 with the best" in text
    assert "9 networks, 27 layers" in text and "3 of 756 scores are undefined" in text
    assert "best layer against that of the best network" in text and "every two networks" not in text
    run = text.split("<h3>What was run</h3>")[1].split("</table>")[0]
    assert {uid for uid in (f"net_{i}" for i in range(N)) if uid in run} == set(drawn)
    legend = text.split("<p class=legend>")[1].split("</p>")[0]
    assert re.findall(r"net_\d", legend) == drawn


def test_figures_know_nothing_of_the_others(many, tmp_path, monkeypatch):
    seen = []

    def record(tidy, metric, styles, best):
        seen.append(set(tidy.model_uid) | set(styles) | set(best.model_uid))
        return depth_curves(tidy, metric, styles=styles, best=best)

    monkeypatch.setattr("deepjuice.report.page.depth_curves", record)
    write_report(many, tmp_path / "page.html")
    assert seen == [set(read_shown(many).drawn)] * 3


def test_best_on_train_keeps_the_order_of_regions(best):
    rows = best[(best.metric == "eReg") & (best.subj_id == "mean")]
    top = best_on_train(rows, 3)
    assert top.region.tolist() == ["NA"] * 3 + ["OTC"] * 3
    assert top[top.region == "OTC"].score_train.tolist() == sorted(rows[rows.region == "OTC"].score_train)[:-4:-1]


def test_best_layers_must_be_there_and_of_the_same_models(many, tmp_path):
    (tmp_path / "scores.nc").symlink_to(many / "scores.nc")
    with pytest.raises(InputError, match="aggregate again"):
        read_shown(tmp_path)
    table = pd.read_csv(many / "best_layers.csv", keep_default_na=False)
    table[table.model_uid != "net_3"].to_csv(tmp_path / "best_layers.csv", index=False)
    with pytest.raises(InputError, match="not of the models"):
        read_shown(tmp_path)
