"""The report page: figures and tables of every benchmark of a run, in one HTML file that needs nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import xarray as xr

from deepjuice.report.figures import LineStyle, depth_curves, model_styles, to_svg
from deepjuice.report.layer_figures import histogram_images, layer_curves
from deepjuice.report.shown import MAX_ROWS, Shown, best_on_train, read_shown
from deepjuice.report.style import CSS
from deepjuice.report.texts import (
    ALPHAS_AT_EDGES,
    COMPARED_ALL,
    COMPARED_WITH_BEST,
    COMPARISONS,
    HISTOGRAMS,
    HOW_TO_READ,
    LABELS,
    LAYERS,
    LEFT_OUT,
    METRICS,
    QUESTION,
    RUN_OF_DRAWN,
)
from deepjuice.results import MAX_ALL_PAIRS, MEAN
from deepjuice.sizes import counted
from juicyfruits.errors import InputError
from juicyfruits.files import atomic_path


def write_report(results_dir: str | Path, out: str | Path, config: dict | None = None) -> Path:
    """Write one self-contained HTML page about the aggregated scores under `results_dir` to `out`; return its path.

    `results_dir` holds the `scores.nc` of `deepjuice.results.aggregate`, or is the parent of several directories
    that do, each of which becomes a section. `config` (anything JSON can show) is printed at the end. The page has no
    scripts and loads nothing; figures are inline SVG. It is written whole or not at all.

    Raises InputError if no `scores.nc` is found or one is not valid.
    """
    out = Path(out)
    directories = _benchmark_dirs(Path(results_dir))
    sections = []
    for number, directory in enumerate(directories):
        sections.append(_benchmark_section(read_shown(directory), directory, out.parent, f"b{number}"))
    title = "Networks and visual cortex"
    page = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{CSS}</style></head><body><main>",
        f"<h1>{title}</h1><p class=lead>{QUESTION}</p>",
        f"<h2>How to read it</h2><p>{HOW_TO_READ}</p>",
        *sections,
        _config_section(config),
        f"<footer>Written by deepjuice on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.</footer>",
        "</main></body></html>\n",
    ]
    with atomic_path(out) as tmp:
        tmp.write_text("\n".join(page), encoding="utf-8")
    return out


def _benchmark_dirs(results_dir: Path) -> list[Path]:
    if (results_dir / "scores.nc").is_file():
        return [results_dir]
    found = sorted(path.parent for path in results_dir.glob("*/scores.nc"))
    if not found:
        raise InputError(f"No scores.nc in {results_dir} or one level below; run 'deepjuice aggregate' first.")
    return found


def _benchmark_section(shown: Shown, directory: Path, base: Path, prefix: str) -> str:
    ds, tidy = shown.ds, shown.tidy
    styles = model_styles(shown.drawn)
    name = ds.attrs["benchmark"]
    title = ds.attrs.get("title")
    parts = [
        f"<h2>{escape(str(title or name))}</h2>",
        f"<p>Benchmark <code>{escape(name)}</code>: {_counts(shown.sizes)}.{_undefined(shown)}</p>{_left_out(shown)}",
    ]
    for number, metric in enumerate(ds["metric"].values.tolist()):
        heading, meaning = METRICS.get(metric, (metric, ""))
        meaning = meaning.format(comparison=_comparison(ds))
        best = shown.best[shown.best.metric == metric]
        figure = depth_curves(tidy, metric, styles=styles, best=best[best.model_uid.isin(shown.drawn)])
        svg = to_svg(figure, f"{prefix}m{number}", escape(f"{heading} by layer depth"))
        parts += [
            f"<section><h3>{escape(heading)}</h3><p>{meaning}</p>",
            _legend(styles, bool(tidy.loc[tidy.metric == metric, "ceiling"].notna().any())),
            f"<figure>{svg}</figure>",
            _models_table(shown, best_on_train(best, MAX_ROWS) if shown.is_part else best, styles, opened=number == 0),
            "</section>",
        ]
    parts += [
        _layers_section(shown, styles, prefix),
        _run_section(shown),
        _files_section(directory, base, shown.sizes["model"]),
    ]
    return "\n".join(parts)


def _layers_section(shown: Shown, styles: dict[str, LineStyle], prefix: str) -> str:
    """Show what the layers' values are like, beside their scores."""
    metric = str(shown.ds["metric"].values[0])
    curves = to_svg(layer_curves(shown.ds, shown.tidy, metric, styles), f"{prefix}t", "Layers by depth")
    images = to_svg(histogram_images(shown.ds, shown.drawn), f"{prefix}h", "Histograms of the layers' values")
    return (
        f"<section><h3>What the layers' values are like</h3><p>{LAYERS.format(metric=escape(metric))}</p>"
        f"{_legend(styles, ceiling=False)}<figure>{curves}</figure>"
        f"<p>{HISTOGRAMS}</p><figure>{images}</figure></section>"
    )


def _left_out(shown: Shown) -> str:
    """Say what of many networks is shown, how it was chosen, and where the rest is."""
    if not shown.is_part:
        return ""
    n = shown.sizes["model"]
    return f"<p>{LEFT_OUT.format(n_networks=f'{n:,}', n_drawn=len(shown.drawn), n_rows=min(MAX_ROWS, n))}</p>"


def _comparison(ds: xr.Dataset) -> str:
    """Say how RDMs were compared, as far as all models share it."""
    settings = json.loads(ds.attrs.get("settings", "{}"))
    return COMPARISONS.get(settings.get("rdm_comparison"), "the correlation")


def _counts(sizes: dict[str, int]) -> str:
    names = {"model": "network", "layer": "layer", "region": "region", "subject": "subject"}
    return ", ".join(counted(sizes[dim], name) for dim, name in names.items())


def _undefined(shown: Shown) -> str:
    counts = f"{shown.n_undefined} of {shown.n_scores}"
    return f" <strong>{counts} scores are undefined</strong> and shown as gaps." if shown.n_undefined else ""


def _legend(styles: dict[str, LineStyle], ceiling: bool) -> str:
    items = [_swatch(style) + escape(model) for model, style in styles.items()]
    if ceiling:
        items.append('<i class=line style="border-top:2px dashed #6b6b6b"></i>noise ceiling')
    return "<p class=legend>" + "".join(f"<span>{item}</span>" for item in items) + "</p>"


def _swatch(style: LineStyle) -> str:
    kind = "solid" if style.dash == "-" else "dotted"
    return f'<i class=line style="border-top:3px {kind} {style.color}"></i>'


def _models_table(shown: Shown, best: pd.DataFrame, styles: dict[str, LineStyle], opened: bool) -> str:
    """A row a region and model: the layer chosen by mean train score, with its mean test score over subjects."""
    n_subjects = best[best.subj_id != MEAN].groupby("region")["subj_id"].nunique()
    best = best[best.subj_id == MEAN]
    rows = []
    for region, group in best.groupby("region", sort=False):
        top = group["score_test"].max()
        first = f"<th rowspan={len(group)} scope=rowgroup>{escape(region)}{_size(shown.ds, region)}</th>"
        for row in group.itertuples():
            path = shown.layer_paths.get((row.model_uid, row.model_layer))
            layer = f"{escape(row.model_layer)} <small>{escape(path)}</small>" if path else "none: no train score"
            swatch = _swatch(styles[row.model_uid]) if row.model_uid in styles else "<i class=line></i>"
            cells = [
                f"<td>{swatch}{escape(row.model_uid)}</td><td>{layer}</td>",
                _number(row.model_layer_depth, digits=2),
                _number(row.score_train),
                _number(row.score_test, strong=row.score_test == top),
                _interval(row.ci_low, row.ci_high),
                _number(row.ceiling),
                _share(row.score_normalized),
            ]
            rows.append(f"<tr{' class=first' if first else ''}>{first}{''.join(cells)}</tr>")
            first = ""
    head = "".join(f"<th>{h}</th>" for h in ("region", "network", "best layer on train"))
    head += "".join(
        f"<th class=n>{h}</th>" for h in ("depth", "train", "test", "95 % interval", "ceiling", "share of ceiling")
    )
    n = f"{n_subjects.min()}" if n_subjects.min() == n_subjects.max() else f"{n_subjects.min()} to {n_subjects.max()}"
    return (
        f"<details{' open' * opened}><summary>Best layers, mean over {n} subject{'s' * (n != '1')}; intervals over "
        f"{' or '.join(best.ci_over.dropna().unique())}</summary>"
        f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _size(ds: xr.Dataset, region: str) -> str:
    if "n_neuroids" not in ds:
        return ""
    return f"<br><small>{int(ds['n_neuroids'].sel(region=region).sum()):,} voxels</small>"


def _number(value: float, digits: int = 3, strong: bool = False) -> str:
    if not np.isfinite(value):
        return "<td class=n>–</td>"
    text = f"{value:.{digits}f}".replace("-", "−")
    return f"<td class=n>{f'<b>{text}</b>' if strong else text}</td>"


def _interval(low: float, high: float) -> str:
    text = f"{low:.3f} … {high:.3f}".replace("-", "−") if np.isfinite(low) else "–"
    return f"<td class=n><small>{text}</small></td>"


def _share(value: float) -> str:
    if not np.isfinite(value):
        return "<td class=n>–</td>"
    width = float(np.clip(100 * value, 0, 100))
    bar = f"<i class=bar><i style='width:{width:.0f}%'></i></i>"
    return f"<td class=n>{bar}{f'{100 * value:.0f}'.replace('-', '−')}%</td>"


def _run_section(shown: Shown) -> str:
    ds = shown.ds
    attrs = {m: json.loads(t) for m, t in zip(ds["model"].values.tolist(), ds["model_attrs"].values, strict=True)}
    names = [n for n in dict.fromkeys(n for a in attrs.values() for n in a) if n != "model_uid"]
    names.sort(key=lambda n: n in LABELS)  # what a run resulted in comes after what it was
    rows = []
    for name in names:
        values = [_attribute(name, a.get(name)) for a in attrs.values()]
        same = len(set(values)) == 1 and not name.startswith("wall_time_")
        cells = f"<td colspan={len(values)}>{values[0]}</td>" if same else "".join(f"<td>{v}</td>" for v in values)
        rows.append(f"<tr><th scope=row>{escape(LABELS.get(name) or name.replace('_', ' '))}</th>{cells}</tr>")
    head = "<th></th>" + "".join(f"<th>{escape(m)}</th>" for m in attrs)
    parts = [
        f"<h3>What was run</h3>{f'<p>{RUN_OF_DRAWN}</p>' * shown.is_part}",
        f"<div class=wide><table class=run><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>",
        f"<p>{ALPHAS_AT_EDGES}</p>" * any(n in LABELS for n in names),
    ]
    return "".join(parts)


def _attribute(name: str, value: object) -> str:
    if value is None:
        return "–"
    if name.startswith("wall_time_") and isinstance(value, (int, float)):
        minutes, seconds = divmod(float(value), 60)
        return f"{minutes:.0f} min {seconds:.0f} s" if minutes else f"{seconds:.1f} s"
    if name in LABELS and isinstance(value, (int, float)):
        return f"{100 * value:.1f} %"
    return escape(f"{value:g}" if isinstance(value, float) else str(value))


def _files_section(directory: Path, base: Path, n_networks: int) -> str:
    compared = COMPARED_WITH_BEST if n_networks > MAX_ALL_PAIRS else COMPARED_ALL
    files: Sequence[tuple[str, str]] = (
        ("scores.parquet", "every score, a row each: model, layer, metric, region, subject, split"),
        ("layers.parquet", "a row a layer: features, effective dimensionality, and what its values are like"),
        ("best_layers.csv", "the layer chosen on train for every model, metric, region and subject, with intervals"),
        ("comparisons.parquet", f"{compared}, with p-values and q-values"),
        ("scores.nc", "the same scores as labelled arrays (xarray)"),
        ("scores", "one file a model, with the scores of every voxel"),
    )
    items = []
    for name, what in files:
        if (directory / name).exists():
            link = Path(os.path.relpath(directory / name, base)).as_posix()
            items.append(f'<li><a href="{escape(quote(link))}">{escape(link)}</a> – {what}</li>')
    return f"<h3>Where the tables are</h3><ul>{''.join(items)}</ul>"


def _config_section(config: dict | None) -> str:
    if config is None:
        return ""
    text = json.dumps(config, indent=2, default=str, ensure_ascii=False)
    return (
        f"<h2>Configuration</h2><details><summary>All settings of this run</summary><pre>{escape(text)}</pre></details>"
    )
