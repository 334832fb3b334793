"""The notebook of batched feature maps, run cell by cell; it prints what the tutorial that it follows shows."""

import ast
import json
import pprint
from pathlib import Path

import pytest

from juicyfruits.nsd.prepare import prepare_nsd
from juicyfruits.synthetic.mini import make_mini

NOTEBOOK = Path(__file__).parents[1] / "examples" / "batched_feature_maps.ipynb"


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory):
    """A small NSD-like benchmark under JUICYFRUITS_DATA."""
    folder = tmp_path_factory.mktemp("seed")
    make_mini(folder / "raw", n_shared=162, n_unique=2, n_subjects=1, n_repeats=1, n_sessions=1, picture_size=64)
    prepare_nsd(folder / "raw", folder / "data" / "nsd")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUICYFRUITS_DATA", str(folder / "data"))
        yield


def run_cell(source, namespace):
    """Run a cell as a notebook does: without its magics, and showing the value of its last line."""
    tree = ast.parse("".join(line for line in source if not line.startswith("%")))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), namespace)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)
        if value is not None:
            pprint.pprint(value)


# The device's name and the memory limit are this run's; everything else is what the tutorial shows.
ALEXNET = """\
Initializing DeepJuice Benchmarks (JuicyFruits)
Loading DeepJuice NSDBenchmark:\x20
  Image Set: shared1000
  Voxel Set: ['EVC', 'OTC']
Extracting sample feature_maps with torchinfo (CPU to CPU)
Keeping 18 / 24 total maps (6 duplicates removed).
[FeatureMaps Handle
  18 maps; 64 inputs; 262.60 MB\x20
  0 maps on GPU (0 duplicates),
 FeatureMaps Handle
  18 maps; 64 inputs; 262.60 MB\x20
  0 maps on GPU (0 duplicates),
 FeatureMaps Handle
  18 maps; 32 inputs; 131.30 MB\x20
  0 maps on GPU (0 duplicates)]
Linear-2-15 [64, 4096]
Linear-2-18 [64, 4096]
Linear-2-20 [64, 1000]

 Number of inputs: 64
Batch Tensor Maps Handler
  Total Batch Count: 3
  # Total Inputs: 160
  # of Unique Feature Maps: 18
  No irregularities found.
{}
Extracting sample feature_maps with torchinfo (CPU to CPU)
FeatureExtractor Handle for AlexNet
  24 feature maps (+6 duplicates); 160 inputs
  Memory required for full extraction: 677.15 MB
  Memory usage limiting device set to: cpu
  Memory usage limit currently set to: 16.000 GB
  1 batch(es) required for current memory limit\x20
   Batch-001: 24 feature maps; 677.15 MB
Joining all regularly shaped feature_maps into a set:
Linear-2-15 [160, 4096]
Linear-2-18 [160, 4096]
Linear-2-20 [160, 1000]
Joining all regularly shaped feature_maps into a set:
Conv2d-2-1 [160, 193600]
Conv2d-2-4 [160, 139968]
Conv2d-2-7 [160, 64896]
Conv2d-2-9 [160, 43264]
Conv2d-2-11 [160, 43264]
"""

# Width of each map of the language model that has a row a token, by hand: attention and MLP of two blocks.
OF_TOKENS = {
    "Embedding-1-1": 16,
    **{"Block-2-1": 16, "LayerNorm-4-1": 16, "Linear-4-2": 48, "Linear-4-3": 16},
    **{"LayerNorm-4-4": 16, "Linear-4-5": 64, "GELU-4-6": 64, "Linear-4-7": 16},
    **{"Block-2-2": 16, "LayerNorm-4-8": 16, "Linear-4-9": 48, "Linear-4-10": 16},
    **{"LayerNorm-4-11": 16, "Linear-4-12": 64, "GELU-4-13": 64, "Linear-4-14": 16},
}
SAMPLE = (
    "Extracting sample feature_maps with torchinfo (CPU to CPU)\nKeeping 18 / 23 total maps (5 duplicates removed).\n"
)
IRREGULAR = "\n".join(f"{uid} [(6, {width}), (5, {width}), (8, {width})]" for uid, width in OF_TOKENS.items())
POOLED = "\n".join(f"{uid} [6, {width}]" for uid, width in OF_TOKENS.items())
LANGUAGE = f"""\
[[2, 6], [2, 5], [2, 8]]
{SAMPLE}\
Batch Tensor Maps Handler
  Total Batch Count: 3
  # Total Inputs: 6
  # of Unique Feature Maps: 18
  Irregular feature maps: {", ".join(OF_TOKENS)}
{IRREGULAR}
Joining all regularly shaped feature_maps into a set:
  Left out (shapes differ between batches): {", ".join(OF_TOKENS)}
Linear-1-3 [6, 23]
{SAMPLE}\
{POOLED}
Linear-1-3 [6, 23]
"""


def test_the_notebooks_cells_run_and_print_what_the_tutorial_shows(surroundings, capsys):
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    namespace = {}
    for cell in cells:
        run_cell(cell["source"], namespace)
    printed = capsys.readouterr()
    assert printed.out.splitlines() == (ALEXNET + LANGUAGE).splitlines()
    for bar in ("Feature Extraction (DataLoader)", "Joining Batched Feature Maps", "Global Progress"):
        assert bar in printed.err
    texts, gpt = namespace["batches"], namespace["gpt"].eval()
    for uid, path in (("LayerNorm-4-8", "blocks.1.norms.0"), ("Linear-4-14", "blocks.1.mlp.2")):
        seen = []
        handle = gpt.get_submodule(path).register_forward_hook(lambda module, x, y, seen=seen: seen.append(y.detach()))
        rows = []
        for batch in texts:  # by a plain loop over texts and their words
            gpt(**batch)
            rows += [
                row[: int(mask.sum())].mean(0) for row, mask in zip(seen[-1], batch["attention_mask"], strict=True)
            ]
        handle.remove()
        for row, expected in zip(namespace["pooled"][uid], rows, strict=True):
            assert row.tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert not any(cell["outputs"] for cell in cells)
