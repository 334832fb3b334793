"""Draw what parts of EfficientNet-Lite0 respond to, and what those parts do that a picture's profile names.

usage: python examples/feature_visualisation.py PICTURE FIGURE [STEPS]

Above: three channels, early, in the middle, and of a class; and a singular direction of a layer's weights. Below: the
picture, and the most influential channel of three layers in its profile. Printed is each objective: for the grey noise
that an image begins from, for the image, and for the picture.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

from deepjuice import get_deepjuice_model
from deepjuice.influence import TorchProfiler, channel_objective, influential_neurons, svd_objective, visualise
from deepjuice.synthesis import PixelScale

CHOSEN = {
    "_blocks.4, channel 3": channel_objective("_blocks.4", 3),
    "_blocks.9, channel 7": channel_objective("_blocks.9", 7),
    "class 22 (bald eagle)": channel_objective("_fc", 22),
    "_blocks.10._project_conv,\ndirection 2": svd_objective("_blocks.10._project_conv", 2),
}
PROFILED = "_blocks.4.add", "_blocks.7.add", "_blocks.9.add"


def main(picture_path: Path, figure_path: Path, n_steps: int = 128) -> None:
    """Profile, visualise, print and draw."""
    model, preprocess = get_deepjuice_model("efficientnet_lite0_imagenet1k")
    picture = Image.open(picture_path).convert("RGB")
    inputs = preprocess(picture)[None]
    profiler = TorchProfiler(model)
    numbers = [layer.index for layer in profiler.layers if layer.names[0] in PROFILED]
    profile = profiler.create_profile(inputs, layers_to_profile=numbers)
    named = {
        f"named: layer {layer}, channel {channel}": channel_objective(layer, channel)
        for layer, [((channel,), _)] in influential_neurons(profile, n_largest=1).items()
    }
    figure, axes = plt.subplots(2, 4, figsize=(8.8, 4.9), layout="constrained")
    for axis, (name, objective) in zip([*axes[0], *axes[1, 1:]], (CHOSEN | named).items(), strict=True):
        made = visualise(model, objective, preprocess, n_steps=n_steps, jitter=8, natural=inputs)
        values = f"start {made.start[0]:.2f}, image {made.reached[0]:.2f}, picture {made.natural[0]:.2f}"
        print(f"{' '.join(name.split()):44} {values}")
        axis.imshow(made.images[0].permute(1, 2, 0).numpy())
        axis.set_title(name, fontsize=8)
    scale = PixelScale.of(preprocess)
    pixels = (inputs[0] - scale.offset[:, None, None]) / scale.gain[:, None, None]
    axes[1, 0].imshow(pixels.clamp(0, 1).permute(1, 2, 0).numpy())
    axes[1, 0].set_title("the picture", fontsize=8)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.savefig(figure_path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:4]))
