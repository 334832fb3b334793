"""What a person sees of a run: the logger plugin on events, and on a small workflow of its own."""

import fcntl
import logging
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.tests import MockOutputSettings, TestLogHandlerBase

from deepjuice.job_logs import fraction_done, last_lines
from snakemake_logger_plugin_deepjuice import LogHandler
from snakemake_logger_plugin_deepjuice.display import Lines
from snakemake_logger_plugin_deepjuice.stages import Run, Stage
from snakemake_logger_plugin_deepjuice.texts import closing, failure, opening

TOY = r"""
from snakemake.logging import logger

rule all:
    input: "results/table"

rule extract:
    output: "results/features/{model}"
    log: "logs/extract/{model}.log"
    shell:
        # Without the trap bash goes on if the signal comes just as `sleep` ends.
        "(trap 'exit 130' INT; printf 'begun\n\rmaps:  10%%|#         |\rmaps:  50%%|#####     |';"
        " while [ ! -e go ]; do sleep 0.05; done;"
        " [ {wildcards.model} != bad ] || {{ printf '\n\nno memory left\n'; exit 1; }}; touch {output}) > {log} 2>&1"

rule table:
    input: expand("results/features/{model}", model=config["models"].split("+"))
    output: "results/table"
    log: "logs/table.log"
    shell: "touch {output} 2> {log}"

about = {"workflow": workflow, "summary": lambda: "what was found", "results": "results"}
logger.info(None, extra={"about": about})

if "wrong" in config:
    raise WorkflowError("models: expected a name, got 3")

onstart:
    logger.warning("a warning")

onsuccess:
    logger.info("what was found", extra={"found": True})
"""


@pytest.fixture
def toy(tmp_path):
    (tmp_path / "Snakefile").write_text(TOY)
    return tmp_path


def command(*words, models="a+b", logger=("--logger", "deepjuice")):
    config = ["--config", f"models={models}"]
    return [
        sys.executable,
        "-m",
        "snakemake",
        "-c2",
        "--nolock",
        *logger,
        *words,
        *([] if "--config" in words else config),
    ]


def snakemake(folder, *words, **options):
    done = subprocess.run(
        command(*words, **options), cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout + done.stderr


def snakemake_on_terminal(folder, *words, until, then, rows=30):
    """Run it on a terminal; when the screen matches `until`, do `then(terminal)`; return that screen and the last."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        while os.get_terminal_size().lines != rows:  # until the parent has given it a size
            time.sleep(0.01)
        os.execv(sys.executable, command(*words))
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 100, 0, 0))
    seen, shown, deadline = b"", None, time.monotonic() + 120
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                seen += os.read(terminal, 65536)
            except OSError:  # the other side is closed
                break
        elif shown is None and re.search(until, "\n".join(screen(seen)), re.DOTALL):
            shown = screen(seen)
            then(terminal)
    else:
        os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(terminal)
    return shown, screen(seen)


def screen(output):
    """The lines on a terminal that is high enough never to scroll."""
    lines, row, column = [[]], 0, 0
    for code, character in re.findall(r"\x1b\[([0-9;]*[A-Za-z])|(.)", output.decode(errors="replace"), re.DOTALL):
        if code.endswith("A"):
            row = max(0, row - int(code[:-1] or 1))
        elif character == "\n":
            row += 1
            lines += [[]] * 0 if row < len(lines) else [[]]
        elif character == "\r":
            column = 0
        elif character:
            lines[row] += " " * (column + 1 - len(lines[row]))
            lines[row][column] = character
            column += 1
    return ["".join(line).rstrip() for line in lines]


# --- logs of jobs


def test_the_last_lines_of_a_log_are_as_a_terminal_leaves_them(tmp_path):
    log = tmp_path / "job.log"
    log.write_text("a\n\rx:  1%|\rx: 99%|\x1b[A\r\n\n" + "\n".join("bcd"))
    assert last_lines(log, 4) == ["x: 99%|", "b", "c", "d"]
    assert last_lines(tmp_path / "absent") == []
    log.write_text("x" * 20_000 + "\rmaps:   3%|\rmaps:   7%|")
    assert fraction_done(log) == 0.07


# --- stages


def begin(run, id, rule="extract", now=0.0, logs=(), **wildcards):
    run.begin(id, rule, wildcards, logs, True, now)


@pytest.fixture
def run():
    run = Run()
    run.plan({"extract": 4, "table": 1, "all": 1, "total": 6}, {"prepare": 2, "extract": 5, "table": 1, "all": 1})
    return run


def test_the_opening_tells_what_runs_and_what_does_not(run):
    assert opening(run) == "to do: 4 extract, 1 table; up to date: 2 prepare, 1 extract"


def test_time_left_is_that_of_the_rate_so_far(run, tmp_path):
    """Of 4 jobs 1.5 done in 30 s: 2.5 more take 50 s; one that failed leaves 1.5, 30 s."""
    log = tmp_path / "b.log"
    log.write_text("maps:  50%|#####")
    begin(run, 1), begin(run, 2, logs=[str(log)])
    run.finish(1, 30)
    run.under_way[0].look()
    stage = run.stages["extract"]
    assert stage.fraction == 1.5 / 4
    assert stage.time_left(30) == 50
    assert stage.text(30) == "1/4, 1 running, 50 s left"
    begin(run, 3)
    run.fail(3, "", [], 30)
    assert stage.text(30) == "1/4, 1 running, 1 failed, 30 s left"
    assert run.stages["table"].text(30) == "0/1"


def test_an_old_log_counts_for_nothing_and_a_job_elsewhere_waits_until_its_log_is_new(run, tmp_path):
    log = tmp_path / "a.log"
    log.write_text("maps: 100%|##########")
    os.utime(log, (1000, 1000))
    run.begin(1, "extract", {}, [str(log)], False, 5000.0)
    run.under_way[0].look()
    assert run.stages["extract"].text(5010) == "0/4, 1 queued"
    log.write_text("maps:  25%|##")
    os.utime(log, (2000, 2000))  # by a clock that is behind
    run.under_way[0].look()
    assert run.stages["extract"].text(5010) == "0/4, 1 running, 2 min 30 s left"


def test_a_job_that_is_tried_again_has_not_failed(run):
    begin(run, 1, model="a")
    run.fail(1, "", [], 1)
    assert [job.name for job in run.failed] == ["extract: model a"]
    begin(run, 1, model="a", now=2.0)
    assert run.failed == [] and run.under_way[0].attempts == 2
    run.finish(1, 3)
    assert run.stages["extract"].done == 1 and run.not_run == {"extract": 3, "table": 1}


def test_jobs_that_ctrl_c_ends_did_not_fail(run):
    for id in range(1, 4):
        begin(run, id, now=10.0 * id)
    run.fail(1, "", [], 15)
    run.fail(2, "", [], 39)
    run.stop(40)
    run.fail(3, "", [], 40)
    assert [job.id for job in run.failed] == [1]
    assert "stopped or not begun: 3 extract, 1 table" in closing(run, 41, "", None)


def test_of_many_failures_the_first_are_told_in_detail(tmp_path):
    run = Run()
    run.plan({"score": 40}, {})
    log = tmp_path / "score.log"
    log.write_text("\n".join(f"line {i}" for i in range(30)))
    for id in range(40):
        begin(run, id, "score", logs=[str(log)], model=str(id))
        run.fail(id, "killed for memory", [str(log)], 1)
    text = closing(run, 65, "", "results")
    assert text.count("    | line 29") == 10 and "line 14\n" not in text and "| line 15" in text
    assert len(re.findall("^  score: model", text, re.MULTILINE)) == 20 and "and 20 more" in text
    assert "| killed for memory" in text and f"log: {log}" in text
    assert "ended with failures after 1 min 5 s" in text and "deepjuice status results" in text
    assert failure(run.failed[0]) == "failed: score: model 0 - line 29"


def test_plain_lines_come_when_a_stage_begins_moves_on_by_a_step_and_ends(capsys):
    lines, stage = Lines(sys.stdout), Stage("score", 100)
    lines.show(stage, 0)
    stage.began = 0.0
    for second in range(201):
        stage.done, stage.ended = second // 2, second
        lines.show(stage, second)
        lines.show(stage, second)
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "score: 0/100"
    assert told[-1] == "score: 100/100, took 3 min 20 s"
    assert [line.split("/")[0] for line in told[1:-1]] == [f"score: {n}" for n in range(10, 100, 10)]
    for hour in range(1, 4):  # nothing moves
        stage.done, lines._told["score"] = 0, (False, 0, 0.0)
        lines.show(stage, 3600 * hour)
    assert len(capsys.readouterr().out.splitlines()) == 3


# --- the plugin


class TestPlugin(TestLogHandlerBase):
    """The interface's own tests."""

    __test__ = True

    def get_log_handler_cls(self):
        return LogHandler

    def get_log_handler_settings(self):
        return None


def records(handler, *events):
    for event, level, text, extra in events:
        record = logging.LogRecord("snakemake", level, "job_scheduler.py", 1, text, (), None)
        record.__dict__.update(extra, event=event)
        handler.emit(record)


def test_jobs_of_a_group_fail_together_and_with_the_clusters_words(capsys, tmp_path):
    settings = MockOutputSettings()
    settings.printshellcmds = False
    handler = LogHandler(settings, None)
    jobs = {"make": 1, "prepare": 2}
    info = [
        (LogEvent.JOB_INFO, 20, "", {"jobid": id, "rule_name": rule, "wildcards": {}, "log": [], "local": False})
        for rule, id in jobs.items()
    ]
    message = "SLURM status is: 'OUT_OF_MEMORY'"
    error = [
        (LogEvent.JOB_ERROR, 40, "", {"jobid": id, "rule_msg": message, "log": [str(tmp_path / "absent")]})
        for id in jobs.values()
    ]
    records(
        handler,
        (LogEvent.WORKFLOW_STARTED, 20, "", {}),
        (LogEvent.RUN_INFO, 20, "", {"stats": {"make": 1, "prepare": 1}}),
        (LogEvent.GROUP_INFO, 20, "", {}),
        *info,
        (LogEvent.GROUP_ERROR, 40, "Error in group", {}),
        *error,
        (None, 40, "At least one job did not complete successfully.", {}),
    )
    handler.close()
    handler.close()
    text = capsys.readouterr().err
    assert text.count("failed: 2 jobs") == 1
    assert text.count(f"    | {message}\n    it left no log") == 2
    assert "Error in group" not in text and "At least one" not in text


# --- the plugin in Snakemake


@pytest.mark.slow
def test_success_then_a_part_again_then_nothing_to_do(toy):
    (toy / "go").touch()
    status, text = snakemake(toy)
    assert status == 0
    lines = text.splitlines()
    assert lines[:2] == ["to do: 2 extract, 1 table", "a warning"]
    assert "extract: 2/2, took" in text and "table: 1/1, took" in text
    assert "\r" not in text and "rule extract" not in text and "Select jobs" not in text
    end = lines[[line.startswith("finished after") for line in lines].index(True) :]
    assert [line.split()[:2] for line in end[1:3]] == [["extract", "2"], ["table", "1"]]
    assert end[-1] == "what was found" and text.count("what was found") == 1
    (toy / "results/table").unlink()
    _, text = snakemake(toy)
    assert text.startswith("to do: 1 table; up to date: 2 extract\n")
    assert re.search(
        r"extract +2 jobs +up to date\n +table +1 job  +\d s|table +1 job .*\n +extract +2 jobs  up to date", text
    )
    status, text = snakemake(toy)
    assert status == 0 and text == "nothing to do: everything is up to date\nwhat was found\n"


@pytest.mark.slow
def test_a_failure_is_told_with_the_end_of_its_log_and_what_to_do(toy):
    (toy / "go").touch()
    status, text = snakemake(toy, "--keep-going", "--retries", "1", models="a+bad")
    assert status == 1
    end = text[text.index("ended with failures after") :]
    assert "failed: 1 job\n  extract: model bad (tried 2 times)\n" in end
    assert "    | begun\n    | maps:  50%|#####     |\n    | no memory left\n    log: logs/extract/bad.log" in end
    assert "not run, as they need what failed: 1 table" in end
    assert "mend what failed, then give the same command again" in end
    assert "deepjuice status results" in end and "what was found" not in end
    assert "CalledProcessError" not in text and "WorkflowError" not in text and "Traceback" not in text
    assert re.search("extract +1 job", end)


@pytest.mark.slow
def test_bars_on_a_terminal_move_with_the_logs_and_leave_a_clean_screen(toy):
    both = r"extract  50%\|.*0/2, 2 running.*table     0%"
    shown, last = snakemake_on_terminal(toy, until=both, then=lambda terminal: (toy / "go").touch())
    assert [line.split("|")[0] for line in shown if "%" in line] == ["extract  50%", "table     0%"]
    assert shown[0] == "to do: 2 extract, 1 table" and shown[1] == "a warning"
    assert not [line for line in last if "%" in line]
    assert [line.split()[0] for line in last if line][:5] == ["to", "a", "finished", "extract", "table"]
    assert [line for line in last if line][-1] == "what was found"


@pytest.mark.slow
def test_ctrl_c_says_what_was_stopped_and_how_to_go_on(toy):
    shown, last = snakemake_on_terminal(toy, until="2 running", then=lambda terminal: os.write(terminal, b"\x03"))
    text = "\n".join(last)
    assert shown is not None
    assert re.search("stopped after .*\nstopped or not begun: 2 extract, 1 table\nto go on give the same command", text)
    assert "failed" not in text and "WorkflowError" not in text and "Traceback" not in text
    assert not list((toy / "results").glob("features/*"))


@pytest.mark.slow
def test_a_run_that_is_told_to_end_has_not_failed_nor_have_its_jobs(toy):
    process = subprocess.Popen(
        command("--keep-going"), cwd=toy, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while len(list((toy / "logs/extract").glob("*.log"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGTERM)  # as `timeout` and schedulers do
    _, text = process.communicate(timeout=120)
    assert re.search("stopped after .*\nstopped or not begun: 2 extract, 1 table\nto go on give the same command", text)
    assert "failed" not in text and text.count("Will exit after finishing") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("--dry-run", "--printshellcmds"),
        ("--lint",),
        ("--dry-run", "--config", "models=a", "wrong=1"),
        ("--dry-run", "--config", "model=a"),
    ],
    ids=" ".join,
)
def test_what_is_no_run_is_told_by_snakemake_as_ever(toy, words, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "0")  # jobs of one level come in the order of a set

    def told(**options):
        status, text = snakemake(toy, *words, **options)
        text = re.sub(r"(?m)^\[.*\]$|.*(Date|Workflow ID|Command): .*|Assuming unrestricted.*\n", "", text)
        return status, sorted(re.sub(r"-p .*", "", text).splitlines())

    assert told() == told(logger=())


@pytest.mark.slow
def test_shell_commands_are_shown_on_request_and_quiet_is_quiet(toy):
    (toy / "go").touch()
    _, text = snakemake(toy, "--printshellcmds")
    assert "rule extract:" in text and "touch results/features/a" in text and "finished after" in text
    _, text = snakemake(toy, "--forceall", "--quiet")
    assert re.fullmatch("a warning\n\nfinished after .* s\nwhat was found\n", text)
    assert snakemake(toy, "--forceall", "--quiet", "all") == (0, "")


@pytest.mark.slow
def test_a_reader_who_has_read_enough_is_no_error(toy):
    shell = " ".join(command("--dry-run")) + " | true"
    done = subprocess.run(shell, shell=True, cwd=toy, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""


def test_every_record_of_a_run_comes_from_where_the_plugin_looks():
    """The plugin tells Snakemake's own messages from a workflow's by where the code lies."""
    import snakemake as installed

    from snakemake_logger_plugin_deepjuice import _is_snakemakes

    assert _is_snakemakes(str(Path(installed.__file__).parent / "workflow.py"))
    assert not _is_snakemakes("/home/me/snakemake-project/workflow/rules/lock.smk")
