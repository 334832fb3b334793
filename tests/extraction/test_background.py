"""The thread beside the forward pass: in order, never far behind, and never past an error."""

import threading

import pytest

from deepjuice.extraction.background import DEPTH, Background

LONG = 10  # seconds that nothing here waits for unless it hangs

pytestmark = pytest.mark.timeout(30)


def test_jobs_run_in_order_in_one_other_thread():
    done, threads = [], set()

    def job(number):
        threads.add(threading.get_ident())
        done.append(number)

    with Background() as background:
        for number in range(100):
            background.run(job, number)
    assert done == list(range(100))
    assert len(threads) == 1 and threading.get_ident() not in threads


@pytest.mark.parametrize("depth", [1, 3, DEPTH])
def test_run_waits_while_the_queue_is_full(depth):
    """The first job is held until a second thread sees that `run` has come no further than the queue's depth."""
    gate, queued, done = threading.Event(), [], []

    def first():
        assert gate.wait(LONG)

    def feed():
        with Background(depth) as background:
            background.run(first)
            queued.append("first")
            for number in range(depth + 5):
                background.run(done.append, number)
                queued.append(number)

    feeder = threading.Thread(target=feed)
    feeder.start()
    feeder.join(0.3)
    assert feeder.is_alive() and len(queued) == depth and done == []
    gate.set()
    feeder.join(LONG)
    assert not feeder.is_alive() and done == list(range(depth + 5)) and len(queued) == depth + 6


def fail():
    raise OSError("No space left on device")


def test_an_error_is_raised_at_the_end_of_the_block():
    done = []
    with pytest.raises(OSError, match="No space left"), Background() as background:
        background.run(done.append, 1)
        background.run(fail)
    assert done == [1]


def test_an_error_is_raised_by_a_later_run_and_nothing_behind_it_is_done():
    done, failed = [], threading.Event()

    def fail_and_tell():
        failed.set()
        fail()

    with pytest.raises(OSError, match="No space left"), Background(depth=2) as background:
        background.run(done.append, 1)
        background.run(fail_and_tell)
        assert failed.wait(LONG)
        for number in range(2, 2 + 3):  # with a queue of two, the third must have met the error
            background.run(done.append, number)
        pytest.fail("the error did not surface")
    assert done == [1]


def test_jobs_that_wait_behind_a_failing_one_never_run():
    """They are in the queue already when it fails."""
    gate, done = threading.Event(), []

    def fail_late():
        assert gate.wait(LONG)
        fail()

    with pytest.raises(OSError, match="No space left"), Background() as background:
        background.run(fail_late)
        for number in range(DEPTH - 1):
            background.run(done.append, number)
        gate.set()
    assert done == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_in_the_block_drops_what_waits_and_lets_the_present_job_end(error):
    begun, gate, done = threading.Event(), threading.Event(), []

    def slow():
        begun.set()
        assert gate.wait(LONG)
        done.append("slow")

    opener = threading.Timer(0.2, gate.set)
    with pytest.raises(error, match="of the block"), Background() as background:
        background.run(slow)
        for number in range(3):
            background.run(done.append, number)
        assert begun.wait(LONG)
        opener.start()
        raise error("of the block")
    assert done == ["slow"]


def test_the_errors_of_block_and_job_together_end_with_the_blocks():
    with pytest.raises(ValueError, match="of the block"), Background() as background:
        background.run(fail)
        raise ValueError("of the block")


def test_no_thread_is_left():
    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(OSError, match="No space left"), Background() as background:
            background.run(fail)
        with Background() as background:
            background.run(int)
    assert threading.active_count() == before
