"""atomic_path: whole or not at all, never anything but a like thing replaced."""

import os
import subprocess
import sys

import pytest

from juicyfruits.errors import InputError
from juicyfruits.files import atomic_path, check_replaceable


def write(path, text, folder=False):
    with atomic_path(path) as tmp:
        if folder:
            tmp.mkdir()
            (tmp / "a.txt").write_text(text)
        else:
            tmp.write_text(text)


def test_a_file_never_replaces_a_folder(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="mine is a folder; choose another place"):
        write(tmp_path / "mine", "new")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "x" and os.listdir(tmp_path) == ["mine"]


def test_a_folder_never_replaces_a_file(tmp_path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(InputError, match="mine is a file; choose another place"):
        write(tmp_path / "mine", "new", folder=True)
    assert (tmp_path / "mine").read_text() == "x" and os.listdir(tmp_path) == ["mine"]


def test_like_replaces_like(tmp_path):
    for text in ("old", "new"):
        write(tmp_path / "file", text)
        write(tmp_path / "folder", text, folder=True)
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "a.txt").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_linked_folder_loses_only_its_link(tmp_path):
    write(tmp_path / "disk", "old", folder=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    write(tmp_path / "link", "new", folder=True)
    assert (tmp_path / "link" / "a.txt").read_text() == "new" and (tmp_path / "disk" / "a.txt").read_text() == "old"


def test_the_old_folder_comes_back_when_the_new_one_cannot_be_moved(tmp_path, monkeypatch):
    write(tmp_path / "folder", "old", folder=True)
    rename = os.rename

    def failing(source, target):
        if str(source).endswith(".tmp"):
            raise OSError("disk gone")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError, match="disk gone"):
        write(tmp_path / "folder", "new", folder=True)
    assert (tmp_path / "folder" / "a.txt").read_text() == "old" and os.listdir(tmp_path) == ["folder"]


def test_leftovers_of_dead_processes_go(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    alive = os.getppid()
    leftovers = [f".out.{dead.pid}.tmp", f".out.{dead.pid}.old", f".out.b.{dead.pid}.tmp", f".out.{alive}.tmp"]
    for name in [*leftovers, ".out.txt.tmp"]:
        (tmp_path / name).mkdir()
    write(tmp_path / "out", "first", folder=True)
    assert sorted(os.listdir(tmp_path)) == sorted([*leftovers[1:], ".out.txt.tmp", "out"])  # .old: till out stands
    write(tmp_path / "out", "second", folder=True)
    assert sorted(os.listdir(tmp_path)) == sorted([*leftovers[2:], ".out.txt.tmp", "out"])


def test_a_place_without_a_name(tmp_path):
    with pytest.raises(InputError, match="give it a name"):
        write("/", "x", folder=True)


def test_check_replaceable(tmp_path):
    check_replaceable(tmp_path / "nothing", "zarr.json")
    check_replaceable(tmp_path, "zarr.json")
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match=r"has no zarr.json, so it will not be replaced; choose another place"):
        check_replaceable(tmp_path, "zarr.json")
    with pytest.raises(InputError, match="is a file, not a folder"):
        check_replaceable(str(tmp_path / "thesis.txt"), "zarr.json")
    (tmp_path / "zarr.json").write_text("{}")
    check_replaceable(tmp_path, "zarr.json")
    with pytest.raises(InputError, match=r"also holds 'thesis.txt', which would be lost"):
        check_replaceable(tmp_path, "zarr.json", ("zarr.json", "maps"))
    (tmp_path / "thesis.txt").rename(tmp_path / ".thesis.txt")
    check_replaceable(tmp_path, "zarr.json", ("zarr.json", "maps"))
