import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from deepjuice.reduction import TorchPCA
from juicyfruits.errors import InputError

SHAPES = [(40, 12), (12, 40), (15, 15)]
TOLERANCE = {"float32": 2e-5, "float64": 1e-10}


def features(shape, dtype="float64", seed=0):
    """Columns of falling variance around means that are not zero, as feature maps have them."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * np.geomspace(3, 0.3, shape[1]) + rng.random(shape[1])).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_components", [None, 1, 5])
def test_it_is_scikit_learns(shape, dtype, n_components):
    X, new = features(shape, dtype), features((7, shape[1]), dtype, seed=1)
    theirs = PCA(n_components, svd_solver="full").fit(X.astype(np.float64))
    ours = TorchPCA(n_components).fit(X)
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype] * 10}
    assert ours.n_components_ == theirs.n_components_ and ours.components_.dtype == getattr(torch, dtype)
    for name in ("explained_variance_", "explained_variance_ratio_", "mean_"):
        np.testing.assert_allclose(getattr(ours, name).numpy(), getattr(theirs, name), **close)
    # with n <= p the last of all components has no variance, and any direction will do
    sure = theirs.explained_variance_ > 1e-9
    rows = theirs.components_[sure]
    signs = np.sign(rows[np.arange(len(rows)), np.abs(rows).argmax(1)])
    np.testing.assert_allclose(ours.components_.numpy()[sure], rows * signs[:, None], **close)
    np.testing.assert_allclose(ours.transform(new).numpy()[:, sure], theirs.transform(new)[:, sure] * signs, **close)
    np.testing.assert_allclose(
        ours.inverse_transform(ours.transform(X)).numpy(), theirs.inverse_transform(theirs.transform(X)), **close
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_all_components_give_the_data_back(shape):
    X = torch.from_numpy(features(shape))
    pca = TorchPCA()
    scores = pca.fit_transform(X)
    torch.testing.assert_close(pca.inverse_transform(scores), X)
    k = pca.n_components_
    torch.testing.assert_close(pca.components_ @ pca.components_.T, torch.eye(k, dtype=X.dtype))
    assert pca.explained_variance_ratio_.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("n_components", [None, 2])
def test_effective_dimensionality_is_of_all_components(n_components):
    X = features((30, 8))
    values = np.linalg.eigvalsh(np.cov(X.T))
    pca = TorchPCA(n_components).fit(X)
    assert pca.effective_dimensionality_ == pytest.approx(values.sum() ** 2 / (values**2).sum())
    corners = torch.cat([torch.eye(5), -torch.eye(5)])  # equal variance in five directions
    assert TorchPCA(n_components).fit(corners).effective_dimensionality_ == pytest.approx(5)


def test_signs_do_not_depend_on_the_order_of_rows():
    X = torch.from_numpy(features((20, 6)))
    pca, shuffled = TorchPCA(3).fit(X), TorchPCA(3).fit(X.flip(0))
    torch.testing.assert_close(pca.components_, shuffled.components_)
    largest = pca.components_.abs().argmax(1, keepdim=True)
    assert (pca.components_.gather(1, largest) > 0).all()


def test_dtypes_and_devices():
    X = features((9, 4))
    for dtype in (torch.float16, torch.bfloat16):
        assert TorchPCA(2).fit_transform(torch.from_numpy(X).to(dtype)).dtype == torch.float32
    counts = np.arange(12).reshape(4, 3) ** 2
    np.testing.assert_allclose(TorchPCA(1).fit(counts).explained_variance_, PCA(1).fit(counts).explained_variance_)
    pca = TorchPCA(2, device="cpu").fit(X)
    assert pca.transform(X.astype("float32")).dtype == torch.float64


def test_the_features_are_left_as_they_were():
    X = torch.from_numpy(features((9, 4)))
    before = X.clone()
    TorchPCA().fit_transform(X)
    assert torch.equal(X, before)


def test_bad_input():
    X = features((9, 4))
    with pytest.raises(InputError, match="n_components=0: expected a positive integer"):
        TorchPCA(0)
    with pytest.raises(InputError, match="n_components=5: expected at most 4"):
        TorchPCA(5).fit(X)
    with pytest.raises(InputError, match="call fit"):
        TorchPCA().transform(X)
    with pytest.raises(InputError, match="call fit"):
        TorchPCA().inverse_transform(X)
    with pytest.raises(InputError, match="X must have 4 features"):
        TorchPCA().fit(X).transform(X[:, :3])
    with pytest.raises(InputError, match="Z must have 2 components"):
        TorchPCA(2).fit(X).inverse_transform(X)
    with pytest.raises(InputError, match="no variance"):
        TorchPCA().fit(np.ones((3, 2)))
    with pytest.raises(InputError, match="at least 2 row"):
        TorchPCA().fit(X[:1])
    X[0, 0] = np.nan
    with pytest.raises(InputError, match="1 of 36 values"):
        TorchPCA().fit(X)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("shape", SHAPES)
def test_a_gpu_agrees_with_the_cpu(shape):
    X = torch.from_numpy(features(shape))
    ours, there = TorchPCA(5).fit(X), TorchPCA(5, device="cuda").fit(X)
    assert there.components_.is_cuda and there.transform(X).is_cuda and TorchPCA(1).fit(X.cuda()).mean_.is_cuda
    torch.testing.assert_close(there.components_.cpu(), ours.components_)
    torch.testing.assert_close(there.transform(X).cpu(), ours.transform(X))
