"""Ten kinds of objects, drawn with ellipses and polygons in a unit square, with what they are (their factors)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]


@dataclass(frozen=True)
class Palette:
    """Colours of one object: its body, the shaded and the light version, and one that stands out."""

    body: Colour
    dark: Colour
    light: Colour
    accent: Colour


class Pen:
    """Draws on an RGBA square of `size` pixels in unit coordinates: x to the right, y down, both in 0-1."""

    def __init__(self, size: int):
        self.size = size
        self.image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self.image)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        """Fill an ellipse around (x, y)."""
        self._draw.ellipse([self.size * v for v in (x - rx, y - ry, x + rx, y + ry)], fill=fill)

    def polygon(self, points: list[Point], fill: Colour) -> None:
        """Fill a polygon."""
        self._draw.polygon([(self.size * x, self.size * y) for x, y in points], fill=fill)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
        """Fill a rectangle."""
        self._draw.rectangle([self.size * v for v in (x0, y0, x1, y1)], fill=fill)

    def line(self, points: list[Point], width: float, fill: Colour) -> None:
        """Draw a line of some width with round corners."""
        self._draw.line(
            [(self.size * x, self.size * y) for x, y in points],
            fill=fill,
            width=max(1, round(self.size * width)),
            joint="curve",
        )

    def arc(
        self, x: float, y: float, rx: float, ry: float, start: float, end: float, width: float, fill: Colour
    ) -> None:
        """Draw a part of an ellipse's outline, angles in degrees clockwise from the right."""
        box = [self.size * v for v in (x - rx, y - ry, x + rx, y + ry)]
        self._draw.arc(box, start, end, fill=fill, width=max(1, round(self.size * width)))


WHITE, BLACK = (205, 205, 205), (60, 60, 60)  # muted: brightness should tell little about the category


def draw_face(pen: Pen, c: Palette, rng: np.random.Generator) -> None:
    """A frontal face with hair, eyes, nose and mouth."""
    wide = rng.uniform(0.27, 0.34)
    pen.ellipse(0.5, 0.42, wide + 0.06, 0.40, c.accent)
    pen.ellipse(0.5, 0.52, wide, 0.40, c.body)
    for side in (-1, 1):
        pen.ellipse(0.5 + side * (wide + 0.01), 0.54, 0.04, 0.08, c.body)
        pen.ellipse(0.5 + side * 0.13, 0.47, 0.07, 0.04, WHITE)
        pen.ellipse(0.5 + side * 0.13, 0.47, 0.032, 0.036, BLACK)
        pen.line([(0.5 + side * 0.21, 0.39), (0.5 + side * 0.06, 0.38)], 0.025, c.accent)
    pen.line([(0.5, 0.48), (0.46, 0.62), (0.53, 0.63)], 0.018, c.dark)
    pen.ellipse(0.5, 0.75, 0.12, rng.uniform(0.025, 0.05), (170, 50, 60))
    pen.line([(0.39, 0.75), (0.61, 0.75)], 0.01, c.dark)


def draw_body(pen: Pen, c: Palette, rng: np.random.Generator) -> None:
    """A standing person without a visible face."""
    arm, leg = rng.uniform(0.08, 0.26), rng.uniform(0.03, 0.12)
    pen.ellipse(0.5, 0.11, 0.075, 0.1, c.light)
    for side in (-1, 1):
        pen.line([(0.5 + side * 0.1, 0.26), (0.5 + side * (0.12 + arm / 2), 0.42)], 0.06, c.body)
        pen.line([(0.5 + side * (0.12 + arm / 2), 0.42), (0.5 + side * (0.1 + arm), 0.56)], 0.05, c.light)
        pen.line([(0.5 + side * 0.06, 0.56), (0.5 + side * (0.06 + leg), 0.95)], 0.085, c.accent)
        pen.ellipse(0.5 + side * (0.09 + leg), 0.96, 0.06, 0.03, BLACK)
    pen.polygon([(0.36, 0.22), (0.64, 0.22), (0.6, 0.6), (0.4, 0.6)], c.body)


def draw_dog(pen: Pen, c: Palette, rng: np.random.Generator) -> None:
    """A four-legged animal from the side."""
    for x in (0.24, 0.34, 0.62, 0.7):
        pen.line([(x, 0.6), (x + rng.uniform(-0.05, 0.05), 0.92)], 0.06, c.dark if x in (0.34, 0.62) else c.body)
    pen.ellipse(0.47, 0.55, 0.3, 0.16, c.body)
    pen.line([(0.2, 0.5), (0.08, 0.34 + rng.uniform(-0.1, 0.1))], 0.04, c.body)
    pen.polygon([(0.62, 0.56), (0.7, 0.28), (0.84, 0.4), (0.74, 0.6)], c.body)
    pen.ellipse(0.77, 0.3, 0.12, 0.1, c.body)
    pen.ellipse(0.89, 0.33, 0.09, 0.055, c.light)
    pen.ellipse(0.97, 0.315, 0.025, 0.022, BLACK)
    pen.ellipse(0.8, 0.27, 0.018, 0.018, BLACK)
    pen.polygon([(0.69, 0.24), (0.63, 0.42), (0.74, 0.36)], c.dark)


def draw_bird(pen: Pen, c: Palette, rng: np.random.Generator) -> None:
    """A perching bird from the side."""
    for x in (0.46, 0.54):
        pen.line([(x, 0.68), (x - 0.02, 0.92), (x + 0.05, 0.93)], 0.018, c.dark)
    pen.polygon([(0.3, 0.5), (0.02, 0.62 + rng.uniform(-0.08, 0.08)), (0.08, 0.72), (0.4, 0.66)], c.dark)
    pen.ellipse(0.48, 0.54, 0.25, 0.18, c.body)
    pen.ellipse(0.56, 0.6, 0.15, 0.12, c.light)
    pen.ellipse(0.7, 0.33, 0.13, 0.12, c.body)
    pen.polygon([(0.81, 0.3), (0.98, 0.35), (0.81, 0.39)], (230, 160, 40))
    pen.ellipse(0.74, 0.3, 0.024, 0.024, BLACK)
    pen.polygon([(0.58, 0.46), (0.18, 0.5 + rng.uniform(-0.1, 0.05)), (0.44, 0.66)], c.dark)


def draw_house(pen: Pen, c: Palette, rng: np.random.Generator) -> None:
    """A house with a roof, windows and a door."""
    eaves = rng.uniform(0.34, 0.46)
    pen.box(0.14, eaves, 0.86, 0.94, c.body)
    pen.box(0.66, 0.12, 0.75, eaves, c.dark)
    pen.polygon([(0.06, eaves), (0.5, 0.06), (0.94, eaves)], c.accent)
    pen.box(0.43, 0.68, 0.57, 0.94, c.dark)
    for x in (0.22, 0.64):
        for y in (eaves + 0.06, 0.72):
            pen.box(x, y, x + 0.14, y + 0.13, WHITE)
            pen.line([(x + 0.07, y), (x + 0.07, y + 0.13)], 0.014, c.dark)
            pen.line([(x, y + 0.065), (x + 0.14, y + 0.065)], 0.014, c.dark)


def draw_tree(pen: Pen, c: Palette, rng: np.random.Generator) -> None:
    """A tree: a trunk with branches and a crown of leaves."""
    pen.polygon([(0.45, 0.5), (0.55, 0.5), (0.6, 0.98), (0.4, 0.98)], (95, 65, 40))
    for x in (0.3, 0.7):
        pen.line([(0.5, 0.66), (x, 0.45)], 0.04, (95, 65, 40))
    for _ in range(26):
        angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1) ** 0.5
        x, y = 0.5 + 0.3 * radius * np.cos(angle), 0.34 + 0.22 * radius * np.sin(angle)
        pen.ellipse(x, y, 0.1, 0.09, (c.body, c.dark, c.light)[int(rng.integers(3))])


def draw_car(pen: Pen, c: Palette, rng: np.random.Generator) -> None:
    """A car from the side."""
    roof = rng.uniform(0.26, 0.36)
    pen.polygon([(0.2, 0.52), (0.32, roof), (0.66, roof), (0.8, 0.52)], c.body)
    pen.polygon([(0.26, 0.51), (0.35, roof + 0.04), (0.48, roof + 0.04), (0.48, 0.51)], (190, 215, 230))
    pen.polygon([(0.51, 0.51), (0.51, roof + 0.04), (0.64, roof + 0.04), (0.73, 0.51)], (190, 215, 230))
    pen.polygon([(0.03, 0.55), (0.2, 0.5), (0.84, 0.5), (0.97, 0.57), (0.97, 0.72), (0.03, 0.72)], c.body)
    pen.box(0.03, 0.66, 0.97, 0.72, c.dark)
    pen.ellipse(0.94, 0.6, 0.03, 0.03, (250, 230, 140))
    for x in (0.25, 0.76):
        pen.ellipse(x, 0.72, 0.12, 0.12, BLACK)
        pen.ellipse(x, 0.72, 0.06, 0.06, (180, 180, 185))


def draw_cup(pen: Pen, c: Palette, rng: np.random.Generator) -> None:
    """A cup with a handle, seen a little from above."""
    foot = rng.uniform(0.2, 0.27)
    pen.arc(0.74, 0.52, 0.17, 0.18, 0, 360, 0.055, c.body)
    pen.polygon([(0.18, 0.24), (0.76, 0.24), (0.47 + foot, 0.84), (0.47 - foot, 0.84)], c.body)
    pen.ellipse(0.47, 0.84, foot, 0.06, c.body)
    pen.ellipse(0.47, 0.24, 0.29, 0.09, c.light)
    pen.ellipse(0.47, 0.25, 0.25, 0.07, (80, 50, 30))
    pen.polygon([(0.24, 0.36), (0.3, 0.38), (0.34, 0.78), (0.3, 0.77)], c.light)


def draw_ball(pen: Pen, c: Palette, rng: np.random.Generator) -> None:
    """A football: a sphere with dark patches."""
    pen.ellipse(0.5, 0.5, 0.44, 0.44, c.dark)
    pen.ellipse(0.49, 0.49, 0.42, 0.42, WHITE)
    turn = rng.uniform(0, 2 * np.pi)
    centres = [(0.5, 0.5, 0.13)]
    for k in range(5):
        angle = turn + 2 * np.pi * k / 5
        x, y = 0.5 + 0.34 * np.cos(angle), 0.5 + 0.34 * np.sin(angle)
        pen.line([(0.5, 0.5), (x, y)], 0.012, BLACK)
        centres.append((x, y, 0.085))
    for x, y, radius in centres:
        corners = turn + 2 * np.pi * np.arange(5) / 5
        pen.polygon([(x + radius * np.cos(a), y + radius * np.sin(a)) for a in corners], BLACK)


LETTERS: dict[str, list[list[Point]]] = {
    "A": [[(0, 1), (0.5, 0), (1, 1)], [(0.22, 0.62), (0.78, 0.62)]],
    "E": [[(1, 0), (0, 0), (0, 1), (1, 1)], [(0, 0.5), (0.8, 0.5)]],
    "H": [[(0, 0), (0, 1)], [(1, 0), (1, 1)], [(0, 0.5), (1, 0.5)]],
    "K": [[(0, 0), (0, 1)], [(1, 0), (0, 0.55), (1, 1)]],
    "L": [[(0, 0), (0, 1), (1, 1)]],
    "M": [[(0, 1), (0, 0), (0.5, 0.6), (1, 0), (1, 1)]],
    "N": [[(0, 1), (0, 0), (1, 1), (1, 0)]],
    "R": [[(0, 1), (0, 0), (0.9, 0.08), (0.9, 0.45), (0, 0.5), (1, 1)]],
    "T": [[(0, 0), (1, 0)], [(0.5, 0), (0.5, 1)]],
    "Z": [[(0, 0), (1, 0), (0, 1), (1, 1)]],
}


def draw_word(pen: Pen, c: Palette, rng: np.random.Generator) -> None:
    """A sign with two rows of four letters."""
    pen.box(0.02, 0.2, 0.98, 0.8, c.dark)
    pen.box(0.04, 0.22, 0.96, 0.78, WHITE)
    for row, top in enumerate((0.28, 0.54)):
        for k, letter in enumerate(rng.choice(list(LETTERS), 4)):
            for stroke in LETTERS[letter]:
                points = [(0.1 + 0.22 * k + 0.14 * x, top + 0.18 * y) for x, y in stroke]
                pen.line(points, 0.03, c.accent if row else BLACK)


@dataclass(frozen=True)
class Kind:
    """A category: how to draw it, and its factors, which the miniature's OTC follows. All factors are in 0-1."""

    draw: Callable[[Pen, Palette, np.random.Generator], None]
    animate: float
    human: float
    natural: float
    large: float
    elongated: float
    round: float
    hue: tuple[float, float] = (0.0, 1.0)


KINDS: dict[str, Kind] = {
    "face": Kind(draw_face, animate=1, human=1, natural=1, large=0.2, elongated=0.2, round=0.8, hue=(0.04, 0.1)),
    "body": Kind(draw_body, animate=1, human=1, natural=1, large=0.5, elongated=1, round=0.1),
    "dog": Kind(draw_dog, animate=1, human=0, natural=1, large=0.4, elongated=0.6, round=0.3),
    "bird": Kind(draw_bird, animate=1, human=0, natural=1, large=0.1, elongated=0.5, round=0.5),
    "house": Kind(draw_house, animate=0, human=0, natural=0, large=1, elongated=0.1, round=0),
    "tree": Kind(draw_tree, animate=0, human=0, natural=1, large=1, elongated=0.4, round=0.6, hue=(0.22, 0.4)),
    "car": Kind(draw_car, animate=0, human=0, natural=0, large=0.8, elongated=0.8, round=0.4),
    "cup": Kind(draw_cup, animate=0, human=0, natural=0, large=0, elongated=0.2, round=0.6),
    "ball": Kind(draw_ball, animate=0, human=0, natural=0, large=0, elongated=0, round=1),
    "word": Kind(draw_word, animate=0, human=0.3, natural=0, large=0.1, elongated=0.7, round=0),
}
FACTORS = ("animate", "human", "natural", "large", "elongated", "round")
