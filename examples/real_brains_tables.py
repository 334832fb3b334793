"""Print the tables of docs/real-brains.md from what the workflow computed.

usage: python examples/real_brains_tables.py [RESULTS]      (default results/real_brains)

One row a stage of EfficientNet-Lite0: the last map of the stem, of every block, and of the head.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from deepjuice.results import best_layers, read_scores, to_tidy

MODELS = {"efficientnet_lite0_imagenet1k": "trained", "efficientnet_lite0_random": "untrained"}


def stage_of(path: str, index: int) -> str:
    """Name the stage of a map by the dotted path of its module."""
    if path.startswith("_blocks."):
        return f"block {path.split('.')[1]}"
    return "stem" if index < 20 else "head"


def tidy_scores(folder: Path) -> pd.DataFrame:
    """Return all models of a benchmark as one tidy table with the column `stage`."""
    tables = []
    for model, name in MODELS.items():
        scores = read_scores(folder / "scores" / f"{model}.nc")
        paths = dict(zip(scores["layer"].values, scores["layer_path"].values, strict=True))
        table = to_tidy(scores).assign(model=name)
        places = zip(table["model_layer"], table["model_layer_index"], strict=True)
        tables.append(table.assign(stage=[stage_of(str(paths[layer]), index) for layer, index in places]))
    return pd.concat(tables, ignore_index=True)


def by_stage(tidy: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return the score of each stage's last map, a column for every combination of `columns`."""
    order = list(dict.fromkeys(tidy.sort_values("model_layer_index")["stage"]))
    last = tidy.sort_values("model_layer_index").groupby(["stage", *columns]).tail(1)
    return last.pivot(index="stage", columns=columns, values="score").loc[order].sort_index(axis=1)


def markdown(table: pd.DataFrame) -> str:
    """Return a table of scores as Markdown."""
    names = [" ".join(map(str, c)) if isinstance(c, tuple) else str(c) for c in table.columns]
    lines = ["| stage | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {stage} | " + " | ".join(f"{v:.2f}" for v in row) + " |" for stage, *row in table.itertuples()]
    return "\n".join(lines)


def main(results: Path) -> None:
    """Print encoding of V4 on the test images, and classical RSA of the 92 objects on all images."""
    for session in ("v4_201025", "v4_210325"):
        tidy = tidy_scores(results / session)
        test = tidy[(tidy["cv_split"] == "test") & tidy["metric"].isin(["eReg", "eRSA"])]
        print(f"\n## {session}\n\n{markdown(by_stage(test, ['metric', 'model']))}\n")
        shown = ["model_uid", "metric", "model_layer", "score_train", "score_test", "ceiling"]
        print(best_layers(tidy)[shown].round(3).to_string(index=False))
    tidy = tidy_scores(results / "k92")
    tidy = tidy[tidy["cv_split"] == "all"]
    names = {"IT": "human", "IT_monkey": "monkey", "model_V1": "V1 model"}
    places = ["model", "stage", "model_layer", "model_layer_index", "region"]
    whole = tidy.groupby(places, as_index=False)["score"].mean()  # over the four people
    whole["brain"] = whole["region"].map(names)
    print(f"\n## k92\n\n{markdown(by_stage(whole, ['brain', 'model']))}\n")
    best = whole.loc[whole.groupby(["brain", "model"])["score"].idxmax()]
    print(best[["brain", "model", "model_layer", "stage", "score"]].round(3).to_string(index=False))
    ceilings = tidy[tidy["region"] == "IT"].groupby("subj_id")["ceiling"].first()
    print(f"\nCeilings across people: {ceilings.round(2).to_dict()}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results/real_brains"))
