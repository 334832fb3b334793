"""Profile-RSA in the pipeline: from pictures to files of profiles to scores, against sets and loops."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist, squareform
from torch import nn

import deepjuice.influence as ddp
from deepjuice import ScoreSettings, extract_features, score_model, versions
from deepjuice.benchmark import Part, join_parts, score_part
from deepjuice.cli import main
from deepjuice.influence import NeuronSets, profile_images, stage
from deepjuice.results import aggregate, read_scores, write_scores
from juicyfruits import write_benchmark
from juicyfruits.errors import InputError
from tests.tiny_net import tiny_net, to_tensor

N = 22
SETTINGS = ScoreSettings(metrics=("pRSA", "cRSA"), n_bootstraps=40, n_permutations=30)


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(N)]
    rdms = {f"roi_{roi}": {s: squareform(pdist(rng.standard_normal((N, 5)))) for s in "ab"} for roi in ("V1", "IT")}
    rdms = {roi.removeprefix("roi_"): of for roi, of in rdms.items()}
    stimuli = pd.DataFrame({"stimulus_id": [f"s{i:02d}" for i in range(N)]})
    return write_benchmark(tmp_path_factory.mktemp("data") / "tiny", stimuli, pictures, rdms=rdms)


def told(benchmark):
    return {"model_uid": "tiny", "stimulus_digest": benchmark.stimulus_digest, "device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def store(benchmark, tmp_path_factory):
    out = tmp_path_factory.mktemp("features") / "tiny.zarr"
    return extract_features(tiny_net(), to_tensor, benchmark.image_paths, out, eps=0.9, **told(benchmark))


@pytest.fixture(scope="module")
def profiles(benchmark, tmp_path_factory):
    out = tmp_path_factory.mktemp("profiles") / "tiny.npz"
    return profile_images(tiny_net(), to_tensor, benchmark.image_paths, out, threshold=0.4, **told(benchmark))


@pytest.fixture(scope="module")
def scores(store, benchmark, profiles):
    return score_model(store, benchmark, SETTINGS, device="cpu", progress=False, profiles=profiles)


def sets_by_hand(benchmark, layer, channels=True):
    """Which neurons of a layer each picture's own profile has."""
    profiler = ddp.TorchProfiler(tiny_net().eval(), example=to_tensor_of(benchmark, 0))
    for i in range(N):
        profile = profiler.create_profile(to_tensor_of(benchmark, i), threshold=0.4, channels=channels)
        counts = profile.neuron_counts[layer]
        yield {(r, c) for r, c, value in zip(counts.row, counts.col, counts.data, strict=True) if value}


def to_tensor_of(benchmark, i):
    from PIL import Image

    return to_tensor(Image.open(benchmark.image_paths[i]).convert("RGB"))[None]


def rdm_by_hand(sets):
    return np.array([[1 - len(a & b) / len(a | b) for b in sets] for a in sets])


@pytest.mark.parametrize("neurons", ["channel", "element"])
def test_rdms_are_jaccard_distances_of_single_pictures_profiles(benchmark, tmp_path, neurons):
    options = {"threshold": 0.4, "neurons": neurons, "batch_size": 5} | told(benchmark)
    found = profile_images(tiny_net(), to_tensor, benchmark.image_paths, tmp_path / "p.npz", **options)
    assert [layer.index for layer in found.header.layers] == [0, *range(1, len(found.header.layers))]
    for layer in found.header.layers:
        expected = rdm_by_hand(list(sets_by_hand(benchmark, layer.index, neurons == "channel")))
        np.testing.assert_allclose(found.rdm(layer.index), expected, atol=1e-6)
        np.testing.assert_array_equal(NeuronSets.load(tmp_path / "p.npz").rdm(layer.index), found.rdm(layer.index))


def test_scores_are_correlations_of_these_rdms_with_the_brains(benchmark, profiles, store, scores):
    uids = {uid: layer.index for layer in profiles.header.layers[1:] for uid in layer.uids}
    first = {r.uid: r.alias_of or r.uid for r in store.header.maps}
    layers = {first[uid]: index for uid, index in uids.items() if uid in first}
    scored = scores["score"].sel(metric="pRSA").notnull().all(("region", "subject", "split"))
    constant = {uid for uid, index in layers.items() if np.ptp(profiles.rdm(index)) == 0}  # always the same unit won
    assert set(scores["layer"].values[scored]) == set(layers) - constant and constant == {"Linear-1-5"}
    for uid in set(layers) - constant:
        rdm = rdm_by_hand(list(sets_by_hand(benchmark, layers[uid])))
        for split, rows in {"train": slice(0, None, 2), "test": slice(1, None, 2), "all": slice(None)}.items():
            for region in ("V1", "IT"):
                brain = benchmark.rdms[region]["a"][rows, rows]
                ours = squareform(rdm[rows, rows], checks=False)
                expected = np.corrcoef(ours, squareform(brain, checks=False))[0, 1]
                found = scores["score"].sel(metric="pRSA", layer=uid, region=region, subject="a", split=split)
                assert found.item() == pytest.approx(expected, abs=1e-5)
    assert json.loads(scores.attrs["profiles"])["threshold"] == 0.4


def test_intervals_p_values_and_tables_go_on_where_layers_have_no_profile(scores, tmp_path):
    write_scores(scores, tmp_path / "tiny.nc")
    aggregate([tmp_path / "tiny.nc"], tmp_path / "tables")
    best = pd.read_csv(tmp_path / "tables" / "best_layers.csv").query("metric == 'pRSA' and subj_id == 'a'")
    score = scores["score"].sel(metric="pRSA", subject="a")
    for region, layer, value, low, high in best[["region", "model_layer", "score_test", "ci_low", "ci_high"]].values:
        chosen = score.sel(region=region, split="train").to_series().idxmax()
        assert layer == chosen
        assert value == pytest.approx(score.sel(region=region, split="test", layer=chosen).item(), abs=1e-6)
        assert low < value < high
    p = read_scores(tmp_path / "tiny.nc")["p_max"].sel(metric="pRSA", split="test")
    assert (p.notnull() == scores["score"].sel(metric="pRSA", split="test").notnull()).all()


def test_parts_joined_are_the_same_to_the_bit(store, benchmark, profiles, scores):
    parts = [score_part(store, benchmark, Part(k, 3), SETTINGS, "cpu", False, profiles) for k in (1, 2, 3)]
    joined = join_parts(parts)
    for name in ("score", "ci_low", "p_max", "best_ci_low"):
        np.testing.assert_array_equal(joined[name].values, scores[name].values)


class Stopping:
    """A preprocessing that is known by its name, and is interrupted at one of its calls."""

    def __init__(self, at):
        self.at, self.n_calls = at, 0

    def __repr__(self):
        return "Stopping"

    def __call__(self, picture):
        self.n_calls += 1
        if self.n_calls == self.at:
            raise KeyboardInterrupt
        return to_tensor(picture)


def test_what_was_done_when_it_stopped_is_not_done_again(benchmark, tmp_path, profiles):
    out, paths = tmp_path / "p.npz", benchmark.image_paths
    options = {"threshold": 0.4, "batch_size": 5, "num_workers": 0} | told(benchmark)
    with pytest.raises(KeyboardInterrupt):  # one call is for the example; of 12 pictures 10 fill two blocks
        profile_images(tiny_net(), Stopping(at=14), paths, out, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["p.npz.partial"]
    rest = Stopping(at=None)
    whole = profile_images(tiny_net(), rest, paths, out, **options)
    assert rest.n_calls == 1 + N - 10 and [path.name for path in tmp_path.iterdir()] == ["p.npz"]
    for layer in whole.header.layers:
        np.testing.assert_array_equal(whole.rdm(layer.index), profiles.rdm(layer.index))


def test_blocks_of_other_settings_are_not_taken_for_these(benchmark, tmp_path):
    out, paths = tmp_path / "p.npz", benchmark.image_paths
    options = {"batch_size": 5, "num_workers": 0} | told(benchmark)
    with pytest.raises(KeyboardInterrupt):
        profile_images(tiny_net(), Stopping(at=14), paths, out, threshold=0.9, **options)
    rest = Stopping(at=None)
    profile_images(tiny_net(), rest, paths, out, threshold=0.4, **options)
    assert rest.n_calls == 1 + N


def test_a_file_of_the_same_content_is_left_as_it_is(benchmark, tmp_path):
    out = tmp_path / "p.npz"
    profile_images(tiny_net(), to_tensor, benchmark.image_paths, out, **told(benchmark))
    before = out.stat().st_mtime_ns
    profile_images(tiny_net(), to_tensor, benchmark.image_paths, out, **told(benchmark))
    assert out.stat().st_mtime_ns == before
    profile_images(tiny_net(), to_tensor, benchmark.image_paths, out, threshold=0.2, **told(benchmark))
    assert out.stat().st_mtime_ns != before and NeuronSets.load(out).header.threshold == 0.2


def test_without_profiles_or_with_others_it_says_so(store, benchmark, profiles):
    with pytest.raises(InputError, match=r"pRSA: there are no profiles; run deepjuice profile"):
        score_model(store, benchmark, SETTINGS, progress=False)
    for name, value, found in (("weights_digest", "another", "'[0-9a-f]+'"), ("n_stimuli", N - 1, N)):
        other = NeuronSets(replace(profiles.header, **{name: value}), {})
        with pytest.raises(InputError, match=rf"{name} is {value!r}, that of the features {found}"):
            score_model(store, benchmark, SETTINGS, progress=False, profiles=other)


def test_profiles_that_no_metric_reads_are_refused(store, benchmark, profiles):
    settings = replace(SETTINGS, metrics=("cRSA",))
    with pytest.raises(InputError, match=r"profiles of tiny: none of the metrics cRSA reads them; add pRSA"):
        score_model(store, benchmark, settings, progress=False, profiles=profiles)


def test_a_network_that_cannot_be_followed_is_named_by_its_operation(benchmark, tmp_path):
    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return (self.conv(x) * self.conv(x)).mean((2, 3))

    remedy = r"leave pRSA out of score\.metrics, or this model out of the run"
    with pytest.raises(InputError, match=rf"^tiny: operation 'mul' at 'mul': profiles cannot follow it.*{remedy}"):
        profile_images(Product().eval(), to_tensor, benchmark.image_paths, tmp_path / "p.npz", **told(benchmark))
    assert not list(tmp_path.iterdir())


def test_what_is_met_only_on_the_way_is_told_before_anything_is_written(benchmark, tmp_path):
    class Mixing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, x):
            return self.linear(self.conv(x).flatten(1).view(-1, 36, 4)).flatten(1)

    with pytest.raises(InputError, match=r"^tiny: operation at 'linear'.* profiles .* cannot follow .*leave pRSA out"):
        profile_images(Mixing().eval(), to_tensor, benchmark.image_paths, tmp_path / "p.npz", **told(benchmark))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.npz.partial", b"mine", "is a file, not a folder"),
        ("p.npz.partial/thesis.txt", b"mine", r"is not empty and has no header\.json"),
        ("p.npz.partial/header.json", b'{"mine": 1}', r"header\.json is of no profiles, .* move it away"),
        ("p.npz.partial/header.json", b"[1]", r"header\.json is of no profiles"),
        ("p.npz.partial/header.json", b"\xff\xfe", r"header\.json is of no profiles"),
        ("p.npz.partial/header.json", b"{\xfc}", r"header\.json is of no profiles"),
        ("p.npz.partial/header.json/mine", b"mine", r"header\.json is of no profiles"),
        ("p.npz", b"mine", "holds no profiles, so it will not be replaced"),
        ("p.npz/thesis.txt", b"mine", "holds no profiles, so it will not be replaced"),
    ],
)
def test_what_is_not_of_profiles_stays(benchmark, tmp_path, name, content, said):
    path, preprocess = tmp_path / name, Stopping(at=None)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        profile_images(tiny_net(), preprocess, benchmark.image_paths, tmp_path / "p.npz", **told(benchmark))
    assert path.read_bytes() == content and preprocess.n_calls == 0


@pytest.fixture
def interrupted(benchmark, tmp_path):
    """Blocks of 5 pictures each, two of them done; and how to go on."""
    options = {"threshold": 0.4, "batch_size": 5, "num_workers": 0} | told(benchmark)
    with pytest.raises(KeyboardInterrupt):
        profile_images(tiny_net(), Stopping(at=14), benchmark.image_paths, tmp_path / "p.npz", **options)
    go_on = partial(profile_images, tiny_net(), Stopping(at=None), benchmark.image_paths, tmp_path / "p.npz", **options)
    return tmp_path / "p.npz.partial", go_on


def test_a_foreign_file_among_blocks_stays(interrupted):
    folder, go_on = interrupted
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"also holds 'thesis\.txt', which would be lost"):
        go_on(threshold=0.9)
    assert (folder / "thesis.txt").read_text() == "mine"


def test_blocks_that_are_damaged_or_others_are_told_and_can_be_deleted(interrupted, profiles):
    folder, go_on = interrupted
    block = folder / "from_5.npz"
    whole = NeuronSets.load(block)
    NeuronSets(replace(whole.header, n_stimuli=6), {k: whole[k] for k in range(len(whole.header.layers))}).save(block)
    with pytest.raises(
        InputError, match=r"from_5\.npz are damaged: layer 0: indptr are 6, expected 7 for 6 .*delete the file"
    ):
        go_on()
    others = {k: whole[k] for k in range(len(whole.header.layers))}
    NeuronSets(replace(whole.header, threshold=0.3), others).save(block)
    with pytest.raises(InputError, match=r"from_5\.npz: other profiles than those of .*header\.json; delete the file"):
        go_on()
    block.unlink()
    found = go_on()
    for layer in found.header.layers:
        np.testing.assert_array_equal(found.rdm(layer.index), profiles.rdm(layer.index))


def test_a_kill_while_blocks_are_removed_needs_no_hand(interrupted, monkeypatch):
    folder, go_on = interrupted

    def half(path):
        if path == folder:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stage, "remove", half)
        go_on()
    assert [path.name for path in folder.iterdir()] == ["header.json"]
    go_on(threshold=0.9)
    assert [path.name for path in folder.parent.iterdir()] == ["p.npz"]


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"num_workers": -1}, {"threshold": 0}, {"neurons": "unit"}])
def test_bad_options_leave_nothing_behind(benchmark, tmp_path, wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        profile_images(tiny_net(), to_tensor, benchmark.image_paths, tmp_path / "p.npz", **told(benchmark) | wrong)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("version", [0, 999, versions.PROFILE])
def test_files_of_another_version_and_damaged_ones_are_made_again(benchmark, tmp_path, profiles, version):
    out, options = tmp_path / "p.npz", {"threshold": 0.4} | told(benchmark)
    NeuronSets(replace(profiles.header, stage_version=version), {}).save(out)
    found = profile_images(tiny_net(), to_tensor, benchmark.image_paths, out, **options)
    assert found.header == profiles.header == NeuronSets.load(out).header


def test_the_command_line_profiles_and_scores(benchmark, tmp_path, capsys):
    folder, model = str(benchmark.folder), "torchvision_squeezenet1_1_random"
    features, profiles, scores = (str(tmp_path / name) for name in ("f.zarr", "p.npz", "s.nc"))
    small = ["--image-size", "64", "--device", "cpu", "--workers", "0"]
    assert main(["extract", model, folder, features, "--eps", "0.9", *small]) == 0
    for wrong in (["--batch-size", "0"], ["--workers", "-1"]):
        assert main(["profile", model, folder, profiles, *small, *wrong]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["f.zarr"]
    assert main(["profile", model, folder, profiles, "--threshold", "0.2", *small]) == 0
    without = ["--metrics", "cRSA", "pRSA", "--n-bootstraps", "0", "--n-permutations", "0", "--device", "cpu"]
    assert main(["score", features, folder, scores, *without]) == 2
    assert main(["score", features, folder, scores, "--profiles", profiles, *without]) == 0
    assert main(["score", features, folder, scores, "--profiles", profiles, *without, "--metrics", "cRSA"]) == 2
    assert "none of the metrics cRSA reads them; add pRSA to them (--metrics)" in capsys.readouterr().err
    found = read_scores(scores)["score"].sel(metric="pRSA")
    assert found.notnull().any("layer").all() and NeuronSets.load(profiles).header.threshold == 0.2
