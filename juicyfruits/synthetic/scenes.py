"""Scenes with known factors: an object, sometimes a smaller distractor, on a textured ground."""

from __future__ import annotations

import colorsys

import numpy as np
import pandas as pd
from PIL import Image

from juicyfruits.synthetic.shapes import KINDS, Palette, Pen

PATCH_WIDTH = 0.12  # SD of the blur that makes patches of local contrast, as a share of the picture's width
PATCH_AMOUNT = 1.3  # SD of the logarithm of local contrast


def make_scenes(n_images: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, pd.DataFrame]:
    """Return (pictures, factors): uint8 (n_images, size, size, 3), and a row a picture with all that was drawn.

    Factors: category, distractor (a category or ""), x, y (centre, 0-1), scale (width of the object over that of the
    picture), angle (degrees), hue, and of the ground ground_orientation (degrees), ground_frequency (cycles a
    picture), ground_contrast, ground_hue. Categories come up equally often, in random order; all else is drawn
    independently of the category (but skin and leaves keep to their hues).
    """
    pictures = np.empty((n_images, size, size, 3), np.uint8)
    names = list(KINDS)
    order = rng.permutation(np.resize(rng.permutation(len(names)), n_images))
    rows = []
    for i in range(n_images):
        factors = draw_factors(names[order[i]], rng)
        pictures[i] = render(factors, size, rng)
        rows.append(factors)
    return pictures, pd.DataFrame(rows)


def draw_factors(category: str, rng: np.random.Generator) -> dict:
    """Draw all factors of one scene but its category."""
    others = [name for name in KINDS if name != category]
    return {
        "category": category,
        "distractor": str(rng.choice(others)) if rng.random() < 0.25 else "",
        "x": rng.uniform(0.4, 0.6),
        "y": rng.uniform(0.4, 0.6),
        "scale": rng.uniform(0.45, 0.72),
        "angle": rng.uniform(-12, 12),
        "hue": rng.uniform(*KINDS[category].hue),
        "ground_orientation": rng.uniform(0, 180),
        "ground_frequency": float(np.exp(rng.uniform(np.log(6), np.log(14)))),
        "ground_contrast": rng.uniform(0.6, 1.0),
        "ground_hue": rng.uniform(0, 1),
    }


def render(factors: dict, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return the picture (size, size, 3) uint8 of one row of factors; `rng` draws the textures and small details."""
    ground = texture(size, factors["ground_orientation"], factors["ground_frequency"], rng)
    contrast = factors["ground_contrast"] * patches(size, rng)
    picture = Image.fromarray(tint(ground * contrast, factors["ground_hue"]))
    if factors["distractor"]:
        corner = rng.choice([0.14, 0.86], 2)
        hue = rng.uniform(*KINDS[factors["distractor"]].hue)
        paste_object(picture, factors["distractor"], *corner, 0.22, 0.0, hue, rng)
    place = (factors["x"], factors["y"], factors["scale"], factors["angle"])
    paste_object(picture, factors["category"], *place, factors["hue"], rng)
    return np.asarray(picture)


def texture(size: int, orientation: float, frequency: float, rng: np.random.Generator) -> np.ndarray:
    """Return noise around one orientation (degrees) and frequency (cycles a picture): float (size, size), SD 1."""
    fy, fx = np.meshgrid(np.fft.fftfreq(size) * size, np.fft.rfftfreq(size) * size, indexing="ij")
    radius = np.hypot(fx, fy)
    radius[0, 0] = 1e-9
    turn = np.angle(np.exp(2j * (np.arctan2(fy, fx) - np.deg2rad(orientation)))) / 2
    gain = np.exp(-(np.log2(radius / frequency) ** 2) / (2 * 0.4**2) - turn**2 / (2 * 0.25**2))
    gain[0, 0] = 0
    noise = np.fft.irfft2(gain * np.fft.rfft2(rng.standard_normal((size, size))), s=(size, size))
    return noise / (noise.std() + 1e-12)


def patches(size: int, rng: np.random.Generator) -> np.ndarray:
    """Return a smooth random map of local contrast, log-normal around 1: float (size, size).

    Where the ground is rough and where it is smooth differs from picture to picture. Cells with small receptive
    fields see it, and the early maps of a network; late ones, which are about the object, lose it.
    """
    fy, fx = np.meshgrid(np.fft.fftfreq(size), np.fft.rfftfreq(size), indexing="ij")
    blur = np.exp(-2 * (np.pi * PATCH_WIDTH * size) ** 2 * (fx**2 + fy**2))
    field = np.fft.irfft2(blur * np.fft.rfft2(rng.standard_normal((size, size))), s=(size, size))
    return np.exp(PATCH_AMOUNT * field / field.std())


def tint(pattern: np.ndarray, hue: float) -> np.ndarray:
    """Colour a pattern (SD about 1) with two shades of a hue: uint8 (size, size, 3)."""
    dark, light = (np.array(colorsys.hls_to_rgb(hue, level, 0.15)) for level in (0.1, 0.9))
    mix = np.clip(0.5 + 0.2 * pattern, 0, 1)[..., None]
    return np.round(255 * (dark + mix * (light - dark))).astype(np.uint8)


def paste_object(
    picture: Image.Image,
    category: str,
    x: float,
    y: float,
    scale: float,
    angle: float,
    hue: float,
    rng: np.random.Generator,
) -> None:
    """Draw an object of a category around (x, y), `scale` of the picture wide, onto the picture."""
    width = max(4, round(scale * picture.width))
    pen = Pen(2 * width)  # twice the size, then halved: smooth edges
    KINDS[category].draw(pen, palette(hue, rng), rng)
    drawn = pen.image.transpose(Image.FLIP_LEFT_RIGHT) if category != "word" and rng.random() < 0.5 else pen.image
    layer = drawn.rotate(angle, resample=Image.BILINEAR, expand=True)
    layer = layer.resize((layer.width // 2, layer.height // 2), Image.LANCZOS)
    layer = grain(layer, rng)
    corner = (round(x * picture.width - layer.width / 2), round(y * picture.height - layer.height / 2))
    picture.paste(layer, corner, layer)


def palette(hue: float, rng: np.random.Generator) -> Palette:
    """Choose an object's colours from its hue."""
    saturation = rng.uniform(0.2, 0.5)
    shades = [colorsys.hls_to_rgb(hue, level, saturation) for level in (0.5, 0.36, 0.64)]
    shades.append(colorsys.hls_to_rgb(rng.uniform(), 0.4, saturation))
    return Palette(*(tuple(round(255 * v) for v in shade) for shade in shades))


def grain(layer: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Give an object a surface: a faint texture of any orientation and frequency."""
    values = np.asarray(layer).astype(np.float32)
    side = max(layer.size)
    pattern = texture(side, rng.uniform(0, 180), rng.uniform(4, 30), rng)[: layer.height, : layer.width]
    values[..., :3] += rng.uniform(3, 14) * pattern[..., None]
    return Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8))
