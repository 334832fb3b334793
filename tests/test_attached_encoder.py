"""Encoders inside networks: against scikit-learn, the score file, closed forms and finite differences."""

import copy
import pickle
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.preprocessing import StandardScaler
from torch import nn

from deepjuice import FeatureStore, ScoreSettings, extract_features, score_model
from deepjuice.attached import FittedEncoder, attach_encoder, fit_encoder, gradient_map, refit_encoder
from deepjuice.reduction import METHODS, make_projection
from deepjuice.results import write_scores
from juicyfruits import write_benchmark
from juicyfruits.errors import InputError
from tests.tiny_net import to_tensor

ALPHAS = (0.1, 10.0, 1e3)
N = 26
WIDE, NARROW, FEW = "Conv2d-1-1", "MaxPool2d-1-3", "Linear-1-6"  # 288 features to 80; 72; 6, fewer than stimuli
LAYERS = {WIDE: "conv", NARROW: "pool", FEW: "head"}


class Net(nn.Module):
    """With what makes attaching hard: an in-place operation after the layer, and a module that is called twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.act, self.pool = nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        self.flat, self.head, self.drop = nn.Flatten(), nn.Linear(72, 6), nn.Dropout()

    def forward(self, x):
        x = self.flat(self.pool(self.act(self.conv(x))))
        return self.act(self.head(self.drop(x[:, :72])))


def seeded(make):
    torch.manual_seed(0)
    return make().eval()


def linear_net():
    """One wide linear map of the pixels."""
    return seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 300)))


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(N)]
    neuroids = pd.DataFrame({"neuroid_id": [f"n{i}" for i in range(9)], "subject": ["a"] * 5 + ["b"] * 4})
    neuroids["roi_V1"], neuroids["roi_IT"] = [1, 0, 1, 1, 0, 1, 0, 0, 1], [0, 1, 0, 1, 1, 0, 0, 0, 0]
    neuroids["roi_rest"] = [0, 0, 0, 0, 0, 0, 1, 1, 0]
    signal = np.stack([p.reshape(-1) for p in pictures]) @ rng.standard_normal((192, 9)) / 1000
    responses = (signal.T + 0.5 * rng.standard_normal((9, N)) + 3)[:, :, None]
    stimuli = pd.DataFrame({"stimulus_id": [f"s{i:02d}" for i in range(N)]})
    folder = tmp_path_factory.mktemp("data") / "tiny"
    return write_benchmark(folder, stimuli, pictures, neuroids=neuroids, responses=responses)


@pytest.fixture(scope="module")
def results(benchmark, tmp_path_factory):
    """Folders of results by projection method, as the workflow lays them out: features, and one score file."""

    @cache
    def folder(method="signed_sums", net=Net):
        out = tmp_path_factory.mktemp("results") / "tiny"
        options = {"model_uid": "net", "stimulus_digest": benchmark.stimulus_digest, "eps": 0.9, "device": "cpu"}
        options |= {"method": method, "progress": False}
        place = out / "features/net.zarr"
        store = extract_features(seeded(net), to_tensor, benchmark.image_paths, place, **options)
        settings = ScoreSettings(("eReg",), ALPHAS, ("V1", "IT"), n_bootstraps=0, n_permutations=0)
        write_scores(score_model(store, benchmark, settings, "cpu", progress=False), out / "scores/net.nc")
        return out

    return folder


@pytest.fixture(scope="module")
def store(results):
    return FeatureStore(results() / "features/net.zarr")


@pytest.fixture(scope="module")
def inputs(benchmark):
    return torch.stack([to_tensor(benchmark.get_stimulus(i)) for i in range(N)])


def fitted(store, benchmark, layer=WIDE, roi="V1", **kwargs):
    return fit_encoder(store, benchmark, layer, roi, alphas=ALPHAS, device="cpu", **kwargs)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layer", LAYERS)
def test_predictions_are_those_of_the_fit(benchmark, results, inputs, method, layer):
    store = FeatureStore(results(method) / "features/net.zarr")
    fit = fitted(store, benchmark, layer)
    assert len(fit.mean) == {WIDE: 80, NARROW: 72, FEW: 6}[layer]
    model = attach_encoder(seeded(Net), fit)
    output, predicted = model(inputs)
    assert list(predicted) == ["V1"] and predicted["V1"].shape == (N, 5)
    assert torch.equal(output, seeded(Net)(inputs))
    expected = fit.predict(store[layer])
    assert (predicted["V1"].double() - expected).abs().max() < 1e-5
    assert expected.std(0).max() > 0.1


@pytest.mark.parametrize("stimuli", ["train", "all"])
@pytest.mark.parametrize("layer", LAYERS)
def test_the_fit_is_scikit_learns(benchmark, store, layer, stimuli):
    ids = ["n0", "n2", "n3", "n5", "n8"]
    rows = slice(None, None, 2) if stimuli == "train" else slice(None)
    X, Y = store[layer].astype(np.float64), benchmark.response_data.loc[ids].to_numpy().T.astype(np.float64)
    scaler = StandardScaler().fit(X[rows])
    alpha = RidgeCV(ALPHAS, alpha_per_target=True).fit(scaler.transform(X[rows]), Y[rows]).alpha_
    expected = Ridge(alpha).fit(scaler.transform(X[rows]), Y[rows]).predict(scaler.transform(X))
    fit = fitted(store, benchmark, layer, stimuli=stimuli)
    assert fit.neuroids == tuple(ids) and fit.stimuli == stimuli
    np.testing.assert_allclose(fit.alpha, alpha)
    np.testing.assert_allclose(fit.predict(store[layer]), expected, rtol=1e-6, atol=1e-6)
    own = fitted(store, benchmark, layer, stimuli=stimuli, subject="b")
    assert own.neuroids == ("n5", "n8")
    np.testing.assert_allclose(own.predict(store[layer]), expected[:, 3:], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("layer", [*LAYERS, *LAYERS.values()])
def test_a_score_file_gives_the_fit_that_it_scored(benchmark, results, store, layer, monkeypatch):
    """The same predictions and alphas as the fit's own, and test predictions with the scores that the file has."""
    monkeypatch.setenv("JUICYFRUITS_DATA", str(benchmark.folder.parent))
    path = results() / "scores/net.nc"
    uid = {**{u: u for u in LAYERS}, **{p: u for u, p in LAYERS.items()}}[layer]
    fit, again = fitted(store, benchmark, uid, "IT"), refit_encoder(path, layer, "IT", device="cpu")
    assert again.neuroids == fit.neuroids == ("n1", "n3", "n4") and again.layer == fit.layer
    np.testing.assert_allclose(again.alpha, fit.alpha, rtol=1e-6)
    np.testing.assert_allclose(again.predict(store[uid]), fit.predict(store[uid]), atol=1e-6)
    with xr.open_dataset(path, engine="h5netcdf") as scores:
        recorded = scores["encoding"].sel(layer=uid, split="test", neuroid=list(again.neuroids)).to_numpy()
        assert refit_encoder(scores, layer, "IT", store=store, device="cpu").features_digest == store.digest
    Y = benchmark.response_data.loc[list(again.neuroids)].to_numpy()[:, 1::2]
    predicted = again.predict(store[uid])[1::2].numpy()
    r = [np.corrcoef(y, p)[0, 1] for y, p in zip(Y, predicted.T, strict=True)]
    np.testing.assert_allclose(r, recorded, atol=1e-5)
    model = attach_encoder(seeded(Net), path, layer, "IT", device="cpu")
    assert model.extension_names == ["IT"]


def test_a_duplicate_map_is_fitted_at_its_own_place(benchmark, store, inputs):
    """Flattening repeats the pooled map: the encoder sits on the module that was named."""
    record = next(record for record in store.header.maps if record.path == "flat")
    assert record.alias_of == NARROW
    fit = fitted(store, benchmark, "flat")
    predicted = attach_encoder(seeded(Net), fit)(inputs)[1]["V1"]
    torch.testing.assert_close(predicted.double(), fit.predict(store[NARROW]), rtol=0, atol=1e-5)


def test_gradient_maps_of_a_linear_network_are_the_folded_weights(benchmark, results, inputs):
    """d predicted / d image = coefficients' R A, the same for every picture; projected, with A the layer's weights."""
    store, net = FeatureStore(results("sparse", linear_net) / "features/net.zarr"), linear_net()
    fit = fitted(store, benchmark, "1")
    R = make_projection(300, 80, "sparse").dense().double()
    folded = (fit.coefficients.T @ R @ net[1].weight.detach().double()).view(-1, 3, 8, 8)
    model = attach_encoder(net, fit)
    for voxel, expected in [(1, folded[1]), ("n2", folded[1]), (None, folded.mean(0))]:
        maps = gradient_map(model, inputs[:3], "V1", voxel)
        assert maps.shape == (3, 8, 8) and maps.dtype == torch.float32
        torch.testing.assert_close(maps.double(), expected.norm(dim=0).expand(3, 8, 8), rtol=1e-5, atol=1e-7)
        noisy = gradient_map(model, inputs[:3], voxel=voxel, n_noisy=3)  # noise changes nothing in a linear network
        torch.testing.assert_close(noisy, maps, rtol=1e-4, atol=1e-7)
        times = gradient_map(model, inputs[:3], voxel=voxel, times_input=True)
        expected = (expected * inputs[:3]).norm(dim=1)
        torch.testing.assert_close(times.double(), expected, rtol=1e-5, atol=1e-7)
    weights = torch.tensor([1.0, -2.0, 0.0, 0.5, 0.0])
    mixed = gradient_map(model, inputs[:1], voxel=weights)[0]
    expected = torch.einsum("v,vchw->chw", weights.double(), folded).norm(dim=0)
    torch.testing.assert_close(mixed.double(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("layer", LAYERS)
def test_gradients_are_finite_differences(benchmark, store, inputs, layer):
    model, x = attach_encoder(seeded(Net), fitted(store, benchmark, layer)), inputs[:1]
    gradient = gradient_map(model, x, "V1", "n3")[0]
    h, differences = 1e-3, torch.zeros(3, 8, 8)
    with torch.no_grad():
        for place in np.ndindex(3, 8, 8):
            step = torch.zeros_like(x)
            step[(0, *place)] = h
            up, down = (model(x + sign * step)[1]["V1"][0, 2] for sign in (1, -1))
            differences[place] = (up - down) / (2 * h)
    error = (differences.norm(dim=0) - gradient).norm() / gradient.norm()
    assert error < 0.02 and gradient.norm() > 0


def test_noise_averages_gradients_before_their_magnitude(benchmark, store, inputs):
    model = attach_encoder(seeded(Net), fitted(store, benchmark, NARROW))
    x, generator, total = inputs[:2], torch.Generator().manual_seed(5), 0
    spread = 0.8 * torch.stack([image.max() - image.min() for image in x])[:, None, None, None]
    for _ in range(9):
        noisy = (x + spread * torch.randn(x.shape, generator=generator)).requires_grad_()
        total = total + torch.autograd.grad(model(noisy)[1]["V1"].mean(1).sum(), noisy)[0]
    expected = (total / 9).square().sum(1).sqrt()
    got = gradient_map(model, x, n_noisy=9, noise=0.8, seed=5)
    torch.testing.assert_close(got, expected)
    assert not torch.allclose(got, gradient_map(model, x), rtol=0.01)


def test_gradient_maps_leave_the_model_as_it_was(benchmark, store, inputs):
    model = attach_encoder(seeded(Net), fitted(store, benchmark, FEW))
    expected = gradient_map(model, inputs)
    model.wrapped_model.drop.train()  # would change the predictions
    modes = [module.training for module in model.modules()]
    kept = inputs.clone()
    torch.testing.assert_close(gradient_map(model, inputs), expected)
    assert [module.training for module in model.modules()] == modes
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.equal(inputs, kept) and not inputs.requires_grad


def test_several_encoders_copies_and_states(benchmark, store, inputs):
    model = attach_encoder(seeded(Net), fitted(store, benchmark))
    assert attach_encoder(model, fitted(store, benchmark, FEW, "IT"), name="late") is model
    expected = model(inputs)[1]
    assert list(expected) == ["V1", "late"] and expected["late"].shape == (N, 3)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert all(torch.equal(value, expected[name]) for name, value in twin(inputs)[1].items())
    state = {name: value.clone() for name, value in model.state_dict().items()}
    assert {f"extension_models.late.{name}" for name in ("mean", "weight", "bias")} <= set(state)
    model.extension_models["late"].weight.zero_()
    assert not torch.equal(model(inputs)[1]["late"], expected["late"])
    model.load_state_dict(state)
    assert torch.equal(model(inputs)[1]["late"], expected["late"])
    with pytest.raises(InputError, match=r"encoder None is not attached.*'V1', 'late'"):
        gradient_map(model, inputs)
    with pytest.raises(ValueError, match="existing name: late"):
        attach_encoder(model, fitted(store, benchmark, FEW, "IT"), name="late")


def test_half_precision_around_a_head_changes_no_rounding_in_it(benchmark, store, inputs):
    """Under autocast the layer's map is rounded; the head computes on with float32 weights."""
    model = attach_encoder(seeded(Net), fitted(store, benchmark))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = seeded(Net).conv(inputs)
        predicted = model(inputs)[1]["V1"]
        assert rounded.dtype == torch.bfloat16 and predicted.dtype == torch.float32
    torch.testing.assert_close(predicted, model.extension_models["V1"](rounded.float()))


def test_a_fit_is_kept_in_a_file(benchmark, store, tmp_path):
    fit = fitted(store, benchmark, subject="b")
    path = fit.save(tmp_path / "v1.npz")
    again = FittedEncoder.load(path)
    for name, value in vars(fit).items():
        other = getattr(again, name)
        assert torch.equal(other, value) if isinstance(value, torch.Tensor) else other == value, name
    assert [p.name for p in tmp_path.iterdir()] == ["v1.npz"]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read as a fitted encoder"):
        FittedEncoder.load(path)
    with pytest.raises(InputError, match="no fitted encoder at"):
        FittedEncoder.load(tmp_path / "v2.npz")
    with pytest.raises(InputError, match=r"ends in \.npz"):
        fit.save(tmp_path / "v1.nc")


def test_unknown_names_and_empty_regions_are_refused(benchmark, store):
    for layer, said in [("Conv2d-1-2", "did you mean 'Conv2d-1-1'"), ("con", "'conv'"), ("act", "2 maps: name one of")]:
        with pytest.raises(InputError, match=said):
            fitted(store, benchmark, layer)
    for kwargs, said in [
        ({"roi": "V2"}, "region 'V2' .* did you mean 'V1'"),
        ({"subject": "c"}, "subject 'c' .* known are 'a', 'b'"),
        ({"roi": "rest", "subject": "a"}, "expected voxels, it has none; those who have some are 'b'"),
        ({"stimuli": "test"}, "expected one of 'train', 'all'"),
    ]:
        with pytest.raises(InputError, match=said):
            fitted(store, benchmark, **kwargs)


def test_models_that_were_not_fitted_are_refused(benchmark, store):
    fit = fitted(store, benchmark)
    with pytest.raises(InputError, match=r"expected eval mode, got training mode; call model\.eval"):
        attach_encoder(seeded(Net).train(), fit)
    other = seeded(Net)
    with torch.no_grad():
        other.head.bias += 1e-3
    with pytest.raises(InputError, match=f"expected net as it was fitted .weights digest {fit.weights_digest}"):
        attach_encoder(other, fit)
    second = next(record for record in store.header.maps if record.path == "act" and record.call == 1)
    with pytest.raises(InputError, match="call 2 of module 'act'"):
        attach_encoder(seeded(Net), fitted(store, benchmark, second.uid))
    for wrong, said in [
        ({"layer": FEW}, "fit's own layer"),
        ({"roi": "IT"}, "region 'V1'"),
        ({"store": store}, "store"),
    ]:
        with pytest.raises(InputError, match=said):
            attach_encoder(seeded(Net), fit, **wrong)
    with pytest.raises(InputError, match="layer and roi beside a score file"):
        attach_encoder(seeded(Net), "scores/net.nc")


def test_an_inference_mode_around_gradient_maps_changes_nothing(benchmark, store, inputs):
    model = attach_encoder(seeded(Net), fitted(store, benchmark))
    expected = gradient_map(model, inputs[:2])
    with torch.inference_mode():
        assert torch.equal(gradient_map(model, inputs[:2].clone()), expected)


def test_bad_pictures_and_voxels_are_refused(benchmark, store, inputs):
    model = attach_encoder(seeded(Net), fitted(store, benchmark))
    with pytest.raises(InputError, match=r"expected shape \[8, 6, 6\] a picture as in the fit, got \[8, 8, 8\]"):
        model(torch.zeros(2, 3, 10, 10))
    with pytest.raises(InputError, match=r"got \[8, 3, 12\]"):  # as many values, elsewhere
        next(iter(model.extension_models.values()))(torch.zeros(2, 8, 3, 12))
    for options in ({"n_noisy": -1}, {"n_noisy": 1.5}, {"n_noisy": 2, "noise": torch.nan}, {"noise": -1.0}):
        with pytest.raises(InputError, match="expected a whole number of copies"):
            gradient_map(model, inputs, **options)
    with pytest.raises(InputError, match="expected a tensor, got ndarray"):
        gradient_map(model, inputs.numpy())
    with pytest.raises(InputError, match="expected a fit or a score file, got NoneType"):
        attach_encoder(model, None)
    model.return_orig_out = False
    with pytest.raises(InputError, match="set return_orig_out"):
        attach_encoder(model, fitted(store, benchmark), name="again")
    model.return_orig_out = True
    with pytest.raises(InputError, match="finite floating-point"):
        gradient_map(model, inputs.masked_fill(inputs > 0.99, torch.nan))
    with pytest.raises(InputError, match="encoder 'V4' is not attached"):
        gradient_map(model, inputs, "V4")
    for voxel, said in [
        (5, "from 0 to 4"),
        ("n1", "voxel 'n1'"),
        (torch.ones(4), r"5 finite numbers, got shape \(4,\)"),
    ]:
        with pytest.raises(InputError, match=said):
            gradient_map(model, inputs, voxel=voxel)
    with pytest.raises(InputError, match="expected what attach_encoder returned, got Net"):
        gradient_map(seeded(Net), inputs)


def test_score_files_of_other_data_are_refused(benchmark, results, store, tmp_path):
    scores = results() / "scores/net.nc"
    other = results("sparse") / "features/net.zarr"
    with pytest.raises(InputError, match=r"expected the content .* of feature store .*; score again"):
        refit_encoder(scores, WIDE, "V1", store=other, benchmark=benchmark)
    stimuli = pd.read_csv(benchmark.folder / "stimuli.csv")[["stimulus_id"]]
    pictures = [np.asarray(benchmark.get_stimulus(i)) for i in range(N)]
    neuroids = pd.read_csv(benchmark.folder / "neuroids.csv")
    doubled = 2 * np.asarray(benchmark.responses)
    changed = write_benchmark(tmp_path / "tiny", stimuli, pictures, neuroids=neuroids, responses=doubled)
    with pytest.raises(InputError, match=r"expected the content .* of benchmark .*; score again"):
        refit_encoder(scores, WIDE, "V1", benchmark=changed)
    table = score_model(store, benchmark, ScoreSettings(("cRSA",), n_bootstraps=0, n_permutations=0), "cpu", False)
    with pytest.raises(InputError, match="a dataset does not say where its features are"):
        refit_encoder(table, WIDE, "V1")
    with pytest.raises(InputError, match="expected penalties of encoding"):
        refit_encoder(table.drop_vars("alpha"), WIDE, "V1", store=store)
    with pytest.raises(InputError, match="No score file"):
        refit_encoder(tmp_path / "none.nc", WIDE, "V1")
    rdms = write_benchmark(tmp_path / "rdms", stimuli, pictures, rdms={"V1": {"a": np.ones((N, N)) - np.eye(N)}})
    with pytest.raises(InputError, match="RDM"):
        fit_encoder(store, rdms, WIDE, "V1")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_predictions_and_maps_are_the_same_on_a_gpu(benchmark, results, inputs, method):
    store = FeatureStore(results(method) / "features/net.zarr")
    model = attach_encoder(seeded(Net), fitted(store, benchmark))
    here, maps = model(inputs)[1]["V1"], gradient_map(model, inputs)
    model.cuda()
    torch.testing.assert_close(model(inputs.cuda())[1]["V1"].cpu(), here, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gradient_map(model, inputs), maps, rtol=1e-3, atol=1e-4)
