"""Public recordings, prepared and scored. They are not part of the repository: looked for in
DEEPJUICE_REAL_BRAINS, else in ../shared/data, and skipped where neither is there."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from deepjuice import ScoreSettings, extract_features, get_deepjuice_model, score_model
from juicyfruits import Benchmark, cowley_v4, kriegeskorte92

SOURCE = Path(os.environ.get("DEEPJUICE_REAL_BRAINS", Path(__file__).parents[2] / "shared" / "data"))
TRAINED, UNTRAINED = "efficientnet_lite0_imagenet1k", "efficientnet_lite0_random"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (SOURCE / "v4/210325").is_dir() or not (SOURCE / "k92").is_dir(),
        reason=f"no recordings in {SOURCE}; docs/real-brains.md says where they are published",
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("real")
    cowley_v4.prepare(SOURCE / "v4", out / "v4_210325", 210325)
    kriegeskorte92.prepare(SOURCE / "k92", out / "k92", models=["V1"])
    return out


def scores(folder, name, model_uid, metrics=("eReg", "cRSA")):
    """Score every map of a model, and show with it the stage of the network that each map belongs to."""
    benchmark = Benchmark(folder / name)
    model, preprocess = get_deepjuice_model(model_uid)
    out = folder / "features" / name / f"{model_uid}.zarr"
    options = {"model_uid": model_uid, "stimulus_digest": benchmark.stimulus_digest, "batch_size": 32}
    store = extract_features(model, preprocess, benchmark.image_paths, out, device="cpu", progress=False, **options)
    settings = ScoreSettings(metrics, rdm_comparison="spearman", n_bootstraps=0, n_permutations=0)
    return benchmark, store, score_model(store, benchmark, settings, "cpu", progress=False)


@pytest.fixture(scope="module")
def v4(folder):
    return {model: scores(folder, "v4_210325", model, ("eReg",)) for model in (TRAINED, UNTRAINED)}


@pytest.fixture(scope="module")
def k92(folder):
    tables = {model: scores(folder, "k92", model)[2] for model in (TRAINED, UNTRAINED)}
    return {model: table.sel(metric="cRSA", split="all") for model, table in tables.items()}


def test_the_trained_network_predicts_v4_neurons_better_in_its_middle(v4):
    test = {model: table["score"].sel(metric="eReg", split="test").squeeze() for model, (_, _, table) in v4.items()}
    trained, untrained = test[TRAINED], test[UNTRAINED]
    assert trained.sizes["layer"] == 159
    assert trained.max() > untrained.max() + 0.1
    peak = trained["layer_depth"][int(trained.argmax())].item()
    assert 0.25 < peak < 0.9
    assert trained.max() < v4[TRAINED][2]["ceiling"].sel(metric="eReg", split="test").item()
    assert trained.sel(layer="Conv2dStaticSamePadding-1-1") < trained.max() - 0.15  # the stem


def test_shuffled_pictures_predict_nothing(v4):
    benchmark, store, _ = v4[TRAINED]
    store.maps = store.maps[100:140:20]
    rng, means = np.random.default_rng(0), []
    for _ in range(6):
        shuffled = Benchmark(benchmark.folder)
        shuffled.responses = np.asarray(benchmark.responses)[:, rng.permutation(len(benchmark.image_paths))]
        table = score_model(store, shuffled, ScoreSettings(metrics=("eReg",)), "cpu", progress=False)
        means.append(table["score"].sel(metric="eReg", split="test").mean().item())
    assert abs(np.mean(means)) < 3 * np.std(means, ddof=1) / np.sqrt(len(means)) < 0.05


def test_human_it_is_matched_late_and_only_by_the_trained_network(k92):
    people = [f"human{number}" for number in range(1, 5)]
    human = {model: table["score"].sel(region="IT", subject=people).mean("subject") for model, table in k92.items()}
    early = human[TRAINED]["layer_depth"] < 0.2
    assert human[TRAINED].where(early).max() < 0.15
    assert 0.25 < human[TRAINED].max() < 0.35
    assert human[TRAINED]["layer_depth"][int(human[TRAINED].argmax())] > 0.6
    assert human[UNTRAINED].max() < 0.15


def test_the_ceilings_of_it_are_those_across_the_four_people(k92):
    own = np.load(SOURCE / "k92" / "rdms.npz")["hIT_subj_session"].mean(axis=1)[:, *np.triu_indices(92, 1)]
    ranks = rankdata(own, axis=1)
    table = k92[TRAINED].sel(region="IT", subject=[f"human{number}" for number in range(1, 5)])
    for i, vector in enumerate(ranks):
        others = ranks.sum(axis=0) - vector
        assert table["ceiling"][i] == pytest.approx(spearmanr(ranks.sum(axis=0), vector)[0], abs=1e-4)
        assert table["ceiling_low"][i] == pytest.approx(spearmanr(others, vector)[0], abs=1e-4)
    assert k92[TRAINED]["ceiling"].sel(region="IT_monkey", subject="monkey").isnull()


def test_the_v1_model_is_matched_best_early(k92):
    v1 = k92[TRAINED]["score"].sel(region="model_V1", subject="model")
    assert v1["layer_depth"][int(v1.argmax())] < 0.3
    assert 0.5 < v1.max() < 0.8
