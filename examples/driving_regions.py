"""Draw what drives neurons of macaque V4, as docs/driving-regions.md shows it.

usage: python examples/driving_regions.py BENCHMARK STORE FIGURE      (docs/real-brains.md makes the first two)

For the three best predicted neurons and the mean of all: the gradient map, smoothed, at the natural picture with the
highest predicted response, and two synthesised images. Printed are predicted responses by the encoder that was
climbed, by one fitted on the other half of the pictures, and by one on another layer.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from deepjuice import FeatureStore, get_deepjuice_model
from deepjuice.attached import attach_encoder, fit_encoder, gradient_map
from deepjuice.synthesis import PixelScale, drive_region
from juicyfruits import Benchmark

LAYER, OTHER_LAYER = "_blocks.7", "_blocks.11"
N_STEPS = 64
ENCODERS = ("climbed", "other half", "other layer")


def other_half(benchmark: Benchmark) -> Benchmark:
    """Return the benchmark with train and test pictures exchanged."""
    swapped = Benchmark(benchmark.folder)
    swapped.stimulus_data = swapped.stimulus_data.assign(split=np.where(benchmark.train, "test", "train"))
    return swapped


def main(folder: Path, store_path: Path, figure_path: Path) -> None:
    """Fit, attach, synthesise, print and draw."""
    benchmark, store = Benchmark(folder), FeatureStore(store_path)
    roi = benchmark.rois[0]
    model, preprocess = get_deepjuice_model(store.header.model_uid)
    halves = benchmark, other_half(benchmark)
    fits = [fit_encoder(store, half, LAYER, roi) for half in halves]
    fits.append(fit_encoder(store, halves[0], OTHER_LAYER, roi))
    for name, fit in zip(ENCODERS, fits, strict=True):
        model = attach_encoder(model, fit, name=name)
    test = np.flatnonzero(benchmark.test)
    predicted = fits[0].predict(store[fits[0].layer.uid])[test].numpy()
    measured = benchmark.response_data.loc[list(fits[0].neuroids)].to_numpy().T[test]
    r = np.array([np.corrcoef(p, m)[0, 1] for p, m in zip(predicted.T, measured.T, strict=True)])
    chosen = [*(int(i) for i in np.argsort(-r)[:3]), None]
    natural = [f.predict(store[f.layer.uid])[test].numpy() for f in fits]
    figure, axes = plt.subplots(len(chosen), 3, figsize=(4.9, 6.6), layout="constrained")
    print(f"{LAYER} of {store.header.model_uid}: mean r {r.mean():.3f} over {len(r)} neurons of {roi}, test pictures")
    for voxel, row in zip(chosen, axes, strict=True):
        draw(row, benchmark, model, preprocess, voxel, test, natural, r)
    titles = "gradient map", "driven 1", "driven 2"
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=8)
    figure.savefig(figure_path, dpi=100)
    Image.open(figure_path).convert("RGB").quantize(96).save(figure_path, optimize=True)


def draw(row, benchmark, model, preprocess, voxel, test, natural, r) -> None:
    """Draw and print one neuron, or the mean of all (`None`)."""
    each = [values.mean(1) if voxel is None else values[:, voxel] for values in natural]
    best = int(test[each[0].argmax()])
    inputs = preprocess(benchmark.get_stimulus(best))[None]
    made = drive_region(model, "climbed", preprocess=preprocess, voxel=voxel, n_images=2, n_steps=N_STEPS)
    with torch.no_grad():
        _, answers = model(PixelScale.of(preprocess)(made.images))
    name = "mean of all" if voxel is None else f"neuron {voxel} (r {r[voxel]:.2f})"
    print(f"\n{name}: start {made.start.mean():.2f}")
    for encoder, values in zip(ENCODERS, each, strict=True):
        answer = answers[encoder].mean(1) if voxel is None else answers[encoder][:, voxel]
        driven = ", ".join(f"{value:.2f}" for value in answer.tolist())
        print(f"  {encoder:12} natural mean {values.mean():.2f}, best {values.max():.2f}; driven {driven}")
    row[0].imshow(gaussian_filter(gradient_map(model, inputs, "climbed", voxel)[0], 3), cmap="magma")
    for axis, image in zip(row[1:], made.images, strict=True):
        axis.imshow(image.permute(1, 2, 0))
    row[0].set_ylabel(name, fontsize=8)
    for axis in row:
        axis.set(xticks=[], yticks=[])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
