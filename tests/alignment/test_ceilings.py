"""The ceiling of a voxel is what a perfect model reaches in a simulation whose truth is known."""

import numpy as np
import pytest

from deepjuice.alignment import noise_ceiling_r, pearsonr
from juicyfruits.errors import InputError


@pytest.mark.parametrize("repeats", [np.full(20_000, 3), np.tile([1, 2, 3, 6], 5_000)], ids=["equal", "unequal"])
def test_the_truth_reaches_its_ceiling(repeats):
    rng = np.random.default_rng(0)
    ncsnr = np.array([0.2, 0.5, 1.0, 2.0])
    signal = rng.normal(size=(20_000, 4)) * ncsnr
    measured = signal + rng.normal(size=signal.shape) / np.sqrt(repeats)[:, None]
    np.testing.assert_allclose(noise_ceiling_r(ncsnr, repeats), pearsonr(measured, signal), atol=0.01)


def test_known_values():
    np.testing.assert_allclose(noise_ceiling_r([0.0, 1.0, np.nan], 1), [0.0, np.sqrt(0.5), np.nan])
    per_voxel = noise_ceiling_r([1.0, 1.0], [[1, 1, 1], [3, 3, 3]])
    np.testing.assert_allclose(per_voxel, np.sqrt([1 / 2, 3 / 4]))
    np.testing.assert_allclose(noise_ceiling_r([1.0], [1, 2]), np.sqrt(1 / 1.75))


@pytest.mark.filterwarnings("error")
def test_a_voxel_without_noise_can_be_predicted_perfectly():
    np.testing.assert_array_equal(noise_ceiling_r([np.inf, 0.0, np.nan], 1), [1.0, 0.0, np.nan])
    np.testing.assert_array_equal(noise_ceiling_r([np.inf], [[1, 3]]), [1.0])


def test_bad_input_is_named():
    with pytest.raises(InputError, match="2 values are not"):
        noise_ceiling_r([0.1, -0.1, -np.inf], 3)
    with pytest.raises(InputError, match="2 entries"):
        noise_ceiling_r([0.1], [[0, 3, np.nan]])
    with pytest.raises(InputError, match=r"for \(2,\) voxels"):
        noise_ceiling_r([0.1, 0.1], np.ones((3, 5)))
