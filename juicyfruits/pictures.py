"""Read a picture as every model shall see it: 8-bit RGB."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from juicyfruits.errors import InputError
from juicyfruits.files import digest, reading
from juicyfruits.picture_file import read_picture, split_address


def open_rgb(path: str | Path) -> Image.Image:
    """Return a picture as 8-bit RGB: transparent parts over white, the first frame of an animation.

    `path` is a file, or the address of a picture in an HDF5 file, such as `images.hdf5#17`
    (`juicyfruits.picture_file`).

    Raises `InputError`, naming the file, if it is missing, truncated, no picture or too large for Pillow, or if it
    holds 16-bit, 32-bit or float grey values (modes I;16, I, F), which a conversion to 8 bits would clip.
    """
    address = split_address(path)
    if address:
        return Image.fromarray(read_picture(*address))
    path = Path(path)
    with reading(path, "a picture"), Image.open(path) as image:
        if image.mode.startswith(("I", "F")):
            raise InputError(
                f"{path} holds grey values of more than 8 bits (mode {image.mode}), which would be clipped; "
                "save it as 8-bit RGB"
            )
        return _over_white(image) if image.has_transparency_data else image.convert("RGB")


def picture_content(path: str | Path) -> Path | str:
    """Return what stands for a picture in a digest: its file, or the digest of its row in an HDF5 file.

    So other pictures in the same file, and how the file is laid out, do not matter.
    """
    address = split_address(path)
    return digest(read_picture(*address)) if address else Path(path)


def _over_white(image: Image.Image) -> Image.Image:
    ground = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
