"""Print the tables of docs/influence.md: RSA of influence profiles (pRSA) beside that of features (cRSA).

usage: python examples/profile_rsa_tables.py [RESULTS]      (default results/profile_rsa)

One row a stage of EfficientNet-Lite0: its first map that has a profile, which is the widest of a block.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from real_brains_tables import by_stage, markdown, tidy_scores

BRAINS = {"IT": "human", "IT_monkey": "monkey", "model_V1": "V1 model", "V4": "V4"}
METRICS = ["cRSA", "pRSA"]
PLACES = ["brain", "model", "model_layer", "model_layer_index", "stage"]


def compared(folder: Path, split: str) -> pd.DataFrame:
    """Return both metrics' scores at the maps that have a profile, the mean over people."""
    tidy = tidy_scores(folder)
    tidy = tidy[tidy["cv_split"] == split].assign(brain=tidy["region"].map(BRAINS))
    wide = tidy.pivot_table(index=PLACES, columns="metric", values="score", aggfunc="mean")
    return wide.dropna()[METRICS].reset_index()


def main(results: Path) -> None:
    """Print a table for each network, the best maps, and how alike the metrics order the maps."""
    wide = pd.concat([compared(results / "k92", "all"), compared(results / "v4", "test")], ignore_index=True)
    first = wide.loc[wide.groupby(["brain", "model", "stage"])["model_layer_index"].idxmin()]
    for model, part in first.melt(PLACES, METRICS, "metric", "score").groupby("model"):
        print(f"\n## {model}\n\n{markdown(by_stage(part, ['brain', 'metric']))}")
    print("\n| | maps | best cRSA | best pRSA | correlation of the orders |\n|---|---|---|---|---|")
    for (brain, model), part in wide.groupby(["brain", "model"]):
        best = (part.loc[part[metric].idxmax(), [metric, "model_layer", "stage"]] for metric in METRICS)
        told = " | ".join(f"{score:.2f} `{layer}` ({stage})" for score, layer, stage in best)
        alike = part["cRSA"].corr(part["pRSA"], method="spearman")
        print(f"| {brain}, {model} | {len(part)} | {told} | {alike:.2f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results/profile_rsa"))
