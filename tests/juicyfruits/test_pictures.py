"""open_rgb: what models see of a file, and which files are refused."""

import numpy as np
import pytest
from PIL import Image

from juicyfruits.errors import InputError
from juicyfruits.pictures import open_rgb


def corner(path):
    picture = open_rgb(path)
    assert picture.mode == "RGB"
    return picture.getpixel((0, 0))


@pytest.mark.parametrize("mode, colour", [("RGBA", (200, 0, 0, 0)), ("LA", (40, 0))])
def test_hidden_colours_do_not_show(tmp_path, mode, colour):
    Image.new(mode, (4, 4), colour).save(tmp_path / "a.png")
    assert corner(tmp_path / "a.png") == (255, 255, 255)


def test_half_transparent_and_palette_transparency(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 128)).save(tmp_path / "half.png")
    assert corner(tmp_path / "half.png") == (255, 127, 127)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "clear.png", transparency=0)
    palette.save(tmp_path / "solid.png")
    assert corner(tmp_path / "clear.png") == (255, 255, 255) and corner(tmp_path / "solid.png") == (10, 20, 30)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "CMYK"])
def test_opaque_pictures_are_converted(tmp_path, mode):
    image = Image.new(mode, (4, 4), "white" if mode != "CMYK" else (0, 0, 0, 0))
    image.save(tmp_path / "a.tif")
    assert corner(tmp_path / "a.tif") == (255, 255, 255)


def test_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert corner(tmp_path / "a.gif") == (255, 0, 0)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_grey_is_refused(tmp_path, dtype):
    Image.fromarray(np.full((4, 4), 1000, dtype)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a.tif holds grey values of more than 8 bits .*; save it as 8-bit RGB"):
        open_rgb(tmp_path / "a.tif")


def spoil(path, kind):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)).save(path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-500])
    elif kind == "text":
        path.write_text("no picture")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "missing":
        path.unlink()
    elif kind == "folder":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp"])
@pytest.mark.parametrize("kind", ["truncated", "text", "empty", "missing", "folder"])
def test_unreadable_pictures_are_named(tmp_path, suffix, kind):
    path = tmp_path / f"a.{suffix}"
    spoil(path, kind)
    with pytest.raises(InputError, match=rf"a.{suffix} cannot be read as a picture \(") as error:
        open_rgb(path)
    assert "\n" not in str(error.value)


def test_bombs_are_refused(tmp_path, monkeypatch):
    Image.new("RGB", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match=r"a.png cannot be read as a picture \(DecompressionBombError"):
        open_rgb(tmp_path / "a.png")
