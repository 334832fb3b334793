from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from deepjuice.report import write_report
from deepjuice.report.figures import PALETTE, depth_curves, model_styles, to_svg
from deepjuice.results import best_layers, best_table, mean_over_subjects, read_scores, to_tidy
from juicyfruits.errors import InputError


def tidy_of(datasets):
    return pd.concat([to_tidy(ds) for ds in datasets], ignore_index=True)


def lines_of(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


@pytest.mark.parametrize("metric", ["eReg", "cRSA", "eRSA"])
def test_curves_are_the_table(models, metric):
    tidy = tidy_of(models)
    figure = depth_curves(tidy, metric)
    assert [a.get_title("left") for a in figure.axes] == ["V1", "V4", "EVC", "OTC"]
    table = tidy[(tidy.metric == metric) & (tidy.cv_split == "test")]
    best = best_layers(mean_over_subjects(tidy[tidy.metric == metric])).set_index(["model_uid", "region"])
    for axes in figure.axes:
        region = axes.get_title("left")
        lines = lines_of(axes)
        here = table[table.region == region]
        for model in ("net_a", "net_b", "net_a_random"):
            curve = here[here.model_uid == model].groupby("model_layer_depth").score.mean()
            np.testing.assert_allclose(lines[model], np.column_stack([curve.index, curve]))
            row = best.loc[model, region]
            np.testing.assert_allclose(lines[f"_best {model}"], [[row.model_layer_depth, row.score_test]])
        np.testing.assert_allclose(lines["ceiling"][:, 1], here.groupby("subj_id").ceiling.first().mean())
        drawn = [line for line in axes.lines if line.get_label().startswith("_subj")]
        assert len(drawn) == (0 if region == "V4" else 3 * 2)
        for line in drawn:
            subject = line.get_label()[1:]
            own = here[(here.subj_id == subject) & (here.score.round(9).isin(line.get_ydata().round(9)))]
            assert len(own) == len(line.get_ydata())
        low, high = axes.get_ylim()
        assert low <= min(0, here.score.min()) and high >= max(here.score.max(), here.ceiling.max())


def test_many_subjects_become_a_band(make):
    tidy = to_tidy(make(subjects=tuple(f"s{i}" for i in range(6)), missing_pairs=()))
    axes = depth_curves(tidy, "eReg").axes[0]
    assert len(axes.collections) == 1 and not [x for x in axes.lines if x.get_label().startswith("_s")]
    rows = tidy[(tidy.metric == "eReg") & (tidy.region == "V1") & (tidy.cv_split == "test")]
    outline = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert outline.max() == pytest.approx(rows.score.max()) and outline.min() == pytest.approx(rows.score.min())


def test_the_interval_of_the_best_layer_goes_through_its_dot(models, build, tmp_path):
    ds = read_scores(build(models, tmp_path)["scores.nc"])
    best = best_table(ds, to_tidy(ds))
    for axes in depth_curves(to_tidy(ds), "eRSA", best=best).axes:
        rows = best[(best.metric == "eRSA") & (best.subj_id == "mean") & (best.region == axes.get_title(loc="left"))]
        drawn = np.concatenate([bar.get_segments() for bar in axes.collections])
        expected = [[[r.model_layer_depth, r.ci_low], [r.model_layer_depth, r.ci_high]] for r in rows.itertuples()]
        np.testing.assert_allclose(drawn, expected)
        assert axes.get_ylim()[0] <= min(0, drawn[..., 1].min()) and axes.get_ylim()[1] >= drawn[..., 1].max()


def test_gaps_for_undefined_scores_and_no_line_for_an_unknown_ceiling(models):
    tidy = tidy_of(models)
    tidy["ceiling"] = np.nan
    gap = (tidy.model_uid == "net_a") & (tidy.model_layer == "Conv2d-1-3")
    tidy.loc[gap, "score"] = np.nan
    axes = depth_curves(tidy, "cRSA").axes[0]
    lines = lines_of(axes)
    assert "ceiling" not in lines
    assert np.isnan(lines["net_a"][2, 1]) and np.isfinite(np.delete(lines["net_a"][:, 1], 2)).all()


def test_an_unknown_metric_is_named(models):
    with pytest.raises(InputError, match="no scores of metric 'CRSA'; did you mean 'cRSA'"):
        depth_curves(tidy_of(models), "CRSA")


def test_every_model_has_its_own_look():
    styles = model_styles([f"m{i}" for i in range(2 * len(PALETTE))])
    assert len(set(styles.values())) == 2 * len(PALETTE)


def test_svg_is_the_same_each_time_and_keeps_its_ids_to_itself(models):
    tidy = tidy_of(models)
    one, other = (to_svg(depth_curves(tidy, "eReg"), prefix, "curves") for prefix in ("a", "a"))
    assert one == other
    ids = re.findall(r'id="([^"]+)"', one)
    assert len(ids) == len(set(ids)) and all(i.startswith("a-") for i in ids)
    used = set(re.findall(r"url\(#([^)]+)\)", one)) | set(re.findall(r'href="#([^"]+)"', one))
    assert used and used <= set(ids)


class Page(HTMLParser):
    """Collects what a page loads, links to and says; complains about tags that do not close."""

    VOID = ("meta", "br", "link", "img", "hr", "input")

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.words, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href", "data", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_page_is_self_contained_and_complete(results, tmp_path):
    config = {"seed": 3, "note": "<script>alert(1)</script> & more"}
    out = write_report(results, tmp_path / "report.html", config)
    text = out.read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert "http://" not in text and "https://" not in text and "@import" not in text
    for link in page.links:
        assert link.startswith(("#", "data:image/png")) or (out.parent / link).exists(), link
    linked = {"/".join(link.split("/")[-2:]) for link in page.links}
    assert {"toy/scores.parquet", "toy/best_layers.csv", "toy/scores", "rdms/scores.nc"} <= linked
    assert page.tags.count("svg") == 3 + 1 + 2 * 2
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    words = [w.strip() for w in page.words]
    for name in ("net_a", "net_b", "net_a_random", "a", "b", "V1", "V4", "EVC", "OTC"):
        assert words.count(name) >= 2, name
    assert "A toy <brain> & nothing more" in words  # escaped in the source, whole on the page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in text
    assert "0123456789abcdef" in words and "3.0 s" in words


def test_table_of_models_shows_the_best_layers(models, results, tmp_path):
    text = write_report(results / "toy", tmp_path / "page.html").read_text(encoding="utf-8")
    best = best_layers(mean_over_subjects(tidy_of(models)))
    ds = read_scores(results / "toy" / "scores.nc")
    top = best.groupby(["metric", "region"]).score_test.transform("max")
    rows = re.findall(r"<tr.*?</tr>", text)
    for row, is_top in zip(best.itertuples(), best.score_test == top, strict=True):
        test = f"<b>{row.score_test:.3f}</b>" if is_top else f"{row.score_test:.3f}"
        numbers = [f"<td class=n>{x}</td>" for x in (f"{row.score_train:.3f}", test, f"{row.ceiling:.3f}")]
        names = [f"</i>{row.model_uid}</td>", f"<td>{row.model_layer} <small>features.{row.model_layer_index}</small>"]
        line = [x for x in rows if all(n in x for n in names + numbers)]
        assert line and f"{100 * row.score_normalized:.0f}%" in line[0]
        ends = ds.sel(metric=row.metric, region=row.region, model=row.model_uid, best_of="mean")
        assert f"{ends.best_ci_low.item():.3f} … {ends.best_ci_high.item():.3f}".replace("-", "−") in line[0]
    assert "intervals over stimuli or stimuli and subjects</summary>" in text


def section(text: str, heading: str) -> str:
    """The words from a heading to the end of its section."""
    return re.search(rf">{re.escape(heading)}<.*?(?=<h[23]|$)", text, re.DOTALL).group()


def test_texts_say_what_the_scores_are(make, build, tmp_path):
    settings = json.dumps({"rdm_comparison": "spearman"})
    build([make(uid).assign_attrs(settings=settings) for uid in ("net_a", "net_b")], tmp_path)
    text = write_report(tmp_path, tmp_path / "page.html").read_text(encoding="utf-8")
    for heading in ("Classical RSA (cRSA)", "Encoding RSA (eRSA)"):
        assert "Spearman's rank correlation of the" in section(text, heading)
    assert "negative by nature" in section(text, "Encoding regression (eReg)")
    assert "Its ceiling is how well the mean" in section(text, "Classical RSA (cRSA)")
    assert "95 % interval of the best layer" in section(text, "How to read it") and "end before 1" in section(
        text, "How to read it"
    )


@pytest.mark.parametrize("settings", [{}, {"settings": '{"rdm_comparison": "pearson"}'}])
def test_models_compared_in_different_ways_are_not_put_together(make, build, tmp_path, settings):
    other = make("b").assign_attrs(settings='{"rdm_comparison": "spearman"}')
    with pytest.raises(InputError, match="rdm_comparison spearman differ"):
        build([make("a").assign_attrs(settings), other], tmp_path)


def test_shares_of_fits_at_the_edges_are_labelled_and_explained(make, build, results, tmp_path):
    attrs = {"alphas_at_lowest": 0.1421, "alphas_at_highest": 0.0}
    build([make(uid).assign_attrs(attrs) for uid in ("a", "b")], tmp_path)
    run = section(write_report(tmp_path, tmp_path / "page.html").read_text(encoding="utf-8"), "What was run")
    assert "fits at the lowest alpha</th><td colspan=2>14.2 %" in run
    assert "fits at the highest alpha</th><td colspan=2>0.0 %" in run
    assert "alphas at" not in run and "Kobak" in run
    assert run.index(">seed<") < run.index(">fits at the lowest")
    assert "Kobak" not in write_report(results, tmp_path / "other.html").read_text(encoding="utf-8")


def test_page_without_ceilings_or_scores(make, build, tmp_path):
    ds = make().copy(deep=True)
    ds["ceiling"][:] = np.nan
    ds["score_normalized"][:] = np.nan
    ds["score"].loc[{"region": "OTC"}] = np.nan
    ds["best_ci_low"][:], ds["best_ci_high"][:] = np.nan, np.nan
    ds["score"].loc[{"metric": "eRSA"}] = np.nan
    build([ds], tmp_path)
    text = write_report(tmp_path, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "scores are undefined</strong>" in text
    assert "noise ceiling</span>" not in text and not re.search(r"\bnan\b", text, re.IGNORECASE)
    assert "none: no train score" in text


def test_names_with_markup_are_escaped(make, build, tmp_path):
    ds = make("a<b>&'\"$x_1$", regions=("<i>V1</i>", "$\\alpha$"), missing_pairs=())
    build([ds.assign_attrs(title="x")], tmp_path)
    text = write_report(tmp_path, tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "<i>V1</i>" not in text and "<b>&'" not in text
    words = [w.strip() for w in page.words]
    assert words.count("<i>V1</i>") == words.count("$\\alpha$") == 3 * 2  # a panel and a table row for each metric


def test_a_folder_in_the_page_s_place_is_left_alone(results, tmp_path):
    (tmp_path / "page.html").mkdir()
    (tmp_path / "page.html" / "thesis.txt").write_text("dear")
    with pytest.raises(InputError, match=r"page\.html"):
        write_report(results, tmp_path / "page.html")
    assert (tmp_path / "page.html" / "thesis.txt").read_text() == "dear"


def test_missing_tables_and_failing_writes(results, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"No scores\.nc in"):
        write_report(tmp_path, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
    monkeypatch.setattr("pathlib.Path.write_text", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report(results / "rdms", tmp_path / "page.html")
    assert not list(tmp_path.iterdir())
