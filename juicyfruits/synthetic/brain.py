"""What the miniature's voxels answer to a picture, before noise."""

from __future__ import annotations

import numpy as np
import pandas as pd
from PIL import Image

from juicyfruits.synthetic.shapes import FACTORS, KINDS

GRID = 96  # pixels: pictures are reduced to GRID x GRID for the energy, which is kept on a map POOL times coarser
POOL = 4
FREQUENCIES = (6.0, 12.0, 24.0)  # cycles a picture
N_ORIENTATIONS = 6

RF_SIZE = {"V1": 0.06, "V2": 0.08, "V3": 0.11, "hV4": 0.16}
"""SD of the receptive fields, as a share of the picture's width; growing from V1 to hV4."""

AREA_PREFERENCE = {
    "OFA": {"face": 2.5},
    "FFA": {"face": 3.0},
    "EBA": {"body": 3.0, "dog": 1.0},
    "FBA": {"body": 2.5, "dog": 1.5, "bird": 1.0},
    "OPA": {"house": 2.5, "tree": 1.0},
    "PPA": {"house": 3.0, "tree": 1.5, "car": 0.5},
    "RSC": {"house": 2.5, "tree": 1.5},
    "OWFA": {"word": 2.5},
    "VWFA": {"word": 3.0},
}
"""How much more a category-selective area answers to its categories than to others."""

DISTRACTOR_WEIGHT = 0.3  # a small object in the corner counts for less than the one looked at


def oriented_energy(pictures: np.ndarray) -> np.ndarray:
    """Return the local amplitude of quadrature pairs of Gabor filters: float32 (picture, channel, row, column).

        E_k(x) = |(I * g_k)(x)|,  g_k the analytic Gabor filter of one of 3 frequencies and 6 orientations

    `pictures` is uint8 (picture, height, width, 3); channels run over frequencies, then orientations. The root
    of the energy model of complex cells: Adelson & Bergen 1985, Journal of the Optical Society of America A 2(2).
    """
    filters = _gabor_bank()
    side = GRID // POOL
    energy = np.empty((len(pictures), len(filters), side, side), np.float32)
    for i, picture in enumerate(pictures):
        grey = np.asarray(Image.fromarray(picture).convert("L").resize((GRID, GRID), Image.BOX), dtype=np.float64) / 255
        local = np.abs(np.fft.ifft2(filters * np.fft.fft2(grey - grey.mean())))
        energy[i] = local.reshape(len(filters), side, POOL, side, POOL).mean(axis=(2, 4))
    return energy


def _gabor_bank() -> np.ndarray:
    """Gaussians in the Fourier plane, one octave wide; half a plane each, so that the filters are analytic."""
    frequency = np.fft.fftfreq(GRID) * GRID
    fy, fx = np.meshgrid(frequency, frequency, indexing="ij")
    bank = []
    for centre in FREQUENCIES:
        for angle in np.pi * np.arange(N_ORIENTATIONS) / N_ORIENTATIONS:
            distance = np.hypot(fx - centre * np.cos(angle), fy - centre * np.sin(angle))
            bank.append(np.exp(-(distance**2) / (2 * (0.35 * centre) ** 2)))
    return np.stack(bank)


def evc_signals(energy: np.ndarray, areas: list[str], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the noiseless answers of early visual voxels, float64 (voxel, picture), and their receptive fields.

        s_v = standardise( sum_k w_vk sum_x G_v(x) E_k(x) )

    G_v is a Gaussian receptive field of the area's size, w_v a bell-shaped tuning over orientation and frequency.
    Answers are standardised over pictures. Fields are float64 (voxel, 3): centre x from the left, centre y from the
    top, and SD, as shares of the picture's width. `areas` names each voxel's area ("V1" ... "hV4").
    """
    side = energy.shape[-1]
    grid = (np.arange(side) + 0.5) / side
    orientations = np.pi * np.arange(N_ORIENTATIONS) / N_ORIENTATIONS
    signals, fields = np.empty((len(areas), len(energy))), np.empty((len(areas), 3))
    for v, area in enumerate(areas):
        x0, y0, size = fields[v] = *rng.uniform(0.15, 0.85, 2), RF_SIZE[area] * rng.uniform(0.8, 1.25)
        field = np.exp(-((grid[:, None] - y0) ** 2 + (grid[None] - x0) ** 2) / (2 * size**2))
        orientation_tuning = np.exp(rng.uniform(0.5, 2.0) * np.cos(2 * (orientations - rng.uniform(0, np.pi))))
        octaves = np.log2(np.array(FREQUENCIES)) - rng.uniform(*np.log2((FREQUENCIES[0], FREQUENCIES[-1])))
        weights = np.outer(np.exp(-(octaves**2) / 2), orientation_tuning).ravel()
        signals[v] = np.einsum("ikyx,k,yx->i", energy, weights / weights.sum(), field / field.sum(), optimize=True)
    return standardise(signals), fields


def otc_signals(factors: pd.DataFrame, areas: list[str], rng: np.random.Generator) -> np.ndarray:
    """Return the noiseless answers of high-level voxels, standardised over pictures: float64 (voxel, picture).

        s_v = standardise( t_v[category] + 0.3 t_v[distractor] )
        t_v[c] = sum_f a_vf factor_f(c) + b_v[c] + preference of the area for c

    So they follow what is in the picture (its category and the factors animate, human, natural, large, elongated,
    round), and neither where it is, nor its size, colours or texture. `areas` names each voxel's area, "" for none.
    """
    names = list(KINDS)
    kinds = np.array([[getattr(kind, factor) for factor in FACTORS] for kind in KINDS.values()])
    kinds = (kinds - kinds.mean(axis=0)) / kinds.std(axis=0)
    main = (factors["category"].to_numpy()[:, None] == names).astype(float)
    shown = main + DISTRACTOR_WEIGHT * (factors["distractor"].to_numpy()[:, None] == names)
    signals = np.empty((len(areas), len(factors)))
    for v, area in enumerate(areas):
        tuning = kinds @ rng.normal(0, 0.5, len(FACTORS)) + rng.normal(0, 0.4, len(names))
        for category, gain in AREA_PREFERENCE.get(area, {}).items():
            tuning[names.index(category)] += gain * rng.uniform(0.8, 1.2)
        signals[v] = shown @ tuning
    return standardise(signals)


def standardise(signals: np.ndarray) -> np.ndarray:
    """Give every row mean 0 and SD 1 (ddof = 0)."""
    centred = signals - signals.mean(axis=1, keepdims=True)
    return centred / centred.std(axis=1, keepdims=True)


def draw_ncsnr(n_voxels: int, rng: np.random.Generator) -> np.ndarray:
    """Draw true ncsnr values, log-normal around 0.55: most in 0.3-1.2, a few below the usual threshold of 0.2."""
    return np.clip(np.exp(rng.normal(np.log(0.55), 0.5, n_voxels)), 0.08, 2.0)


def add_noise(signals: np.ndarray, ncsnr: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return signals (voxel, trial) with Gaussian noise of SD 1 / ncsnr, as the signals have SD 1 over pictures."""
    return signals + rng.standard_normal(signals.shape) / ncsnr[:, None]
