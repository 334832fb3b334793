import errno
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from juicyfruits.cli import main


def test_make_prepare_list_doctor(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JUICYFRUITS_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("juicyfruits.cli.make_mini", lambda out, **options: tiny(out, options))
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert "no benchmarks in" in listed and "cowley_v4: Macaque V4" in listed
    mini = tmp_path / "mini"
    assert main(["make-mini", str(mini), "--seed", "5", "--shared", "12", "--unique", "2"]) == 0
    assert main(["doctor", str(mini)]) == 0 and f"{mini} is in order" in capsys.readouterr().out
    out = tmp_path / "data" / "nsd_mini"
    assert main(["prepare", "nsd", str(mini), str(out), "--subjects", "subj02", "--rois", "EVC"]) == 0
    printed = capsys.readouterr()
    assert "12 stimuli of shared1000; 0 dropped" in printed.out and "flat or without data" in printed.out
    assert "subj02 betas" in printed.err  # progress stays off stdout
    assert json.loads((out / "benchmark.json").read_text())["voxel_set"] == ["EVC"]
    assert main(["list"]) == 0 and "Probe Stimuli: 12" in capsys.readouterr().out
    assert main(["doctor", str(out)]) == 0 and f"{out} is in order" in capsys.readouterr().out
    responses = np.load(out / "responses.npy")
    np.save(out / "responses.npy", responses + 1)
    assert main(["doctor", str(out)]) == 1 and "ERROR" in capsys.readouterr().out


def test_list_goes_on_after_a_broken_folder_and_skips_hidden_ones(own_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JUICYFRUITS_DATA", str(tmp_path))
    shutil.copytree(own_folder, tmp_path / ".own.1.tmp")
    shutil.copytree(own_folder, tmp_path / "broken")
    (tmp_path / "broken" / "responses.npy").write_text("no array")
    assert main(["list"]) == 0
    broken, own = capsys.readouterr().out.splitlines()[-2:]
    assert broken.startswith(f"{tmp_path / 'broken'}: not usable: ") and "responses.npy cannot be read" in broken
    assert own.startswith(f"{own_folder}: Benchmark 'own'")


def test_a_full_disk_is_one_line_and_status_2(own_folder, tmp_path, capsys, monkeypatch):
    def full(*folders, **options):
        raise OSError(errno.ENOSPC, "No space left on device", "data/own")

    monkeypatch.setattr("juicyfruits.cli_public.prepare_nsd", full)
    assert main(["prepare", "nsd", str(own_folder), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "juicyfruits: error: [Errno 28] No space left on device: 'data/own'\n"


def tiny(out, options):
    from juicyfruits.synthetic.mini import make_mini

    return make_mini(out, volume=(7, 8, 7), picture_size=24, **options)


@pytest.mark.parametrize(
    "argv",
    [
        ["doctor", "nowhere"],
        ["make-mini", "out", "--seed", "-1"],
        ["prepare", "nsd", "nowhere", "out"],
        ["prepare", "nsd", "nowhere", "out", "--rois", "V9"],
        ["prepare", "kriegeskorte92", "nowhere", "out"],
        ["prepare", "cowley_v4", "nowhere", "out", "--session", "201000"],
        ["fetch", "kriegeskorte92", "out", "--from", "nowhere"],
        ["fetch", "cowley_v4", "out", "--sessions", "1"],
    ],
)
def test_bad_input_is_one_line_and_status_2(argv, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("juicyfruits: error: ") and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_no_torch_and_no_deepjuice():
    code = "import sys, juicyfruits, juicyfruits.cli; sys.exit(bool({'torch', 'deepjuice'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
