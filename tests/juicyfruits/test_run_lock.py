"""Runs that keep apart, and jobs that end with their run: with real processes, and SIGKILL."""

import contextlib
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import psutil
import pytest

from juicyfruits import run_lock
from juicyfruits.errors import InputError, exit_status
from juicyfruits.run_lock import JOBS, RUN, VARIABLE, Run, join_run, start_run

PYTHON = (sys.executable, "-c")
RUNS = """
import subprocess, sys
from juicyfruits.run_lock import start_run
own, read, *job = sys.argv[1:]
start_run(own.split(), read.split())
if job:
    subprocess.Popen(job)
print("runs", flush=True)
sys.stdin.read()
"""
WORKS = """
import os, sys
from juicyfruits.errors import exit_status
def work():
    print(os.getpid(), flush=True)
    sys.stdin.read()
sys.exit(exit_status("job", work))
"""


@pytest.fixture(autouse=True)
def of_no_run(monkeypatch):
    """Whatever a test locks is unlocked after it."""
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)
    held = []
    monkeypatch.setattr(run_lock, "_held", held)
    monkeypatch.setattr(run_lock, "PATIENCE", 0.3)
    yield
    for file in held:
        os.close(file)


@pytest.fixture
def begin():
    """Start Python, which waits for its end, and return it with the first line that it printed."""
    started = []

    def begin_(code, *words, **options):
        process = subprocess.Popen(
            [*PYTHON, code, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
        )
        started.append(process)
        return process, process.stdout.readline().strip()

    yield begin_
    for process in started:
        process.kill()
        process.communicate()


def wait_for_end(pid, seconds=30):
    """As it is nobody's child any more, look whether the process is there and is more than a number."""
    until = time.monotonic() + seconds
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_a_second_run_on_a_folder_is_told_who_has_it_until_that_one_is_killed(begin, tmp_path):
    run, _ = begin(RUNS, tmp_path / "results", "")
    with pytest.raises(
        InputError, match=rf"results is in use by another run .*process {run.pid} on {os.uname().nodename}"
    ):
        start_run([tmp_path / "data", tmp_path / "results"])
    run.kill()
    run.wait()
    assert start_run([tmp_path / "results"]).pid == os.getpid()


def test_many_may_read_a_folder_but_nobody_makes_something_there_meanwhile(begin, tmp_path):
    begin(RUNS, tmp_path / "a", tmp_path)
    start_run([tmp_path / "b"], read=[tmp_path])
    with pytest.raises(InputError, match="in use by another run"):
        start_run([tmp_path])


def test_nobody_reads_a_folder_where_something_is_made(begin, tmp_path):
    begin(RUNS, tmp_path, "")
    with pytest.raises(InputError, match="in use by another run"):
        start_run([tmp_path / "b"], read=[tmp_path])


def test_one_folder_may_be_for_all(tmp_path):
    assert start_run([tmp_path, tmp_path / "."], read=[tmp_path]).folders == [str(tmp_path)]


def test_a_folder_of_others_is_read_as_it_is(tmp_path, monkeypatch):
    """As root may write anywhere, what the system would say is said here."""
    really = os.open

    def refuse(path, flags, *mode):
        if flags & os.O_CREAT and "theirs" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return really(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)
    (tmp_path / "theirs").mkdir()
    start_run([tmp_path / "a"], read=[tmp_path / "theirs"])  # nobody has ever made something there
    (tmp_path / "theirs" / RUN).write_text("")
    with open(tmp_path / "theirs" / RUN) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="theirs is in use"):
            start_run([tmp_path / "b"], read=[tmp_path / "theirs"])
    start_run([tmp_path / "c"], read=[tmp_path / "theirs"])
    assert list((tmp_path / "theirs").iterdir()) == [tmp_path / "theirs" / RUN]


def test_where_a_file_system_has_no_locks_runs_go_on_without(tmp_path, monkeypatch):
    def flock(file, mode):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert start_run([tmp_path]) == start_run([tmp_path])


def test_a_job_ends_when_its_run_is_killed_and_the_next_run_waits_for_that(begin, tmp_path, capsys):
    run, _ = begin(RUNS, tmp_path, "", "bash", "-c", f"{sys.executable} -c '{WORKS}' && true", stderr=subprocess.PIPE)
    job = int(run.stdout.readline())
    assert run_lock.is_alive(job)
    run.kill()
    run.wait()
    start_run([tmp_path])
    wait_for_end(job, 0.5)
    assert capsys.readouterr().err.count("jobs of a run that was killed are about to end") == 1
    assert "has ended, and so does the job" in run.stderr.read()


def test_a_job_ends_when_the_shell_that_started_it_is_killed(begin, tmp_path):
    environment = {**os.environ, VARIABLE: json.dumps(asdict(start_run([tmp_path])))}
    shell = subprocess.Popen(
        ["bash", "-c", f"{sys.executable} -c '{WORKS}' && true"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    job = int(shell.stdout.readline())
    assert job != shell.pid
    shell.kill()
    wait_for_end(job)
    shell.communicate()


def test_a_job_on_another_machine_ends_when_another_run_takes_the_folder(begin, tmp_path):
    elsewhere = replace(Run.here([tmp_path]), host="login", pid=2**22 + 1)  # no process here has such a number
    (tmp_path / RUN).write_text(json.dumps(asdict(elsewhere)))
    job, pid = begin(WORKS, env={**os.environ, VARIABLE: json.dumps(asdict(elsewhere))})
    assert int(pid) == job.pid and job.poll() is None  # that its run has gone cannot be seen from here
    start_run([tmp_path])  # and waits
    assert job.wait(timeout=10) == 1


@pytest.mark.parametrize("how", ["killed", "followed by another"])
def test_a_job_that_comes_after_its_run_does_nothing(begin, tmp_path, monkeypatch, capsys, how):
    run, _ = begin(RUNS, tmp_path, "")
    said = (tmp_path / RUN).read_text()
    if how == "killed":
        run.send_signal(signal.SIGKILL)
        run.wait()
    else:
        other = replace(Run(**json.loads(said)), since="later")
        (tmp_path / RUN).write_text(json.dumps(asdict(other)))
    monkeypatch.setenv(VARIABLE, said)
    assert exit_status("job", lambda: pytest.fail("it ran")) == 2
    assert "has ended; start the workflow again" in capsys.readouterr().err


def test_a_command_that_no_run_has_started_is_on_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    join_run()
    assert run_lock._held == [] and not list(tmp_path.rglob(JOBS))
