from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from airflow_zilliz._wait.checkpoint import EMPTY_CHECKPOINT
from airflow_zilliz._wait.snapshot import Snapshot
from airflow_zilliz._wait.write_pacing import PROCESS_INTERVAL, WAIT_INTERVAL, WritePacing, WriteQueue

BEGIN = Snapshot.begin("j", 0.0, EMPTY_CHECKPOINT)


def at(percent: int, state: str = "Importing") -> Snapshot:
    return replace(BEGIN, whole=replace(BEGIN.whole, percent=percent, state=state))


def test_a_wait_is_written_at_once_on_change_alone_and_30_s_apart() -> None:
    pacing = WritePacing()
    assert pacing.is_due(at(10), 100.0)
    pacing.wrote(at(10), 100.0)
    assert pacing.due(at(10), 500.0) is None
    assert not pacing.is_due(at(20), 129.9)
    assert pacing.is_due(at(20), 130.0)


def test_a_queue_writes_the_latest_of_each_wait_half_a_second_apart() -> None:
    queue = WriteQueue[str]()
    for key in "ab":
        queue.begin(key, BEGIN, 0.0)
    queue.offer("a", at(10), 5.0)
    queue.offer("b", at(10), 5.0)
    queue.offer("a", at(20), 5.1)
    assert queue.take(5.1) == ("a", at(20))
    assert queue.take(5.5) is None
    assert queue.next_at() == 5.1 + PROCESS_INTERVAL
    assert queue.take(5.6) == ("b", at(10))
    assert queue.next_at() == math.inf


def test_what_the_worker_has_just_written_is_not_written_again_and_its_next_waits_30_s() -> None:
    queue = WriteQueue[str]()
    queue.begin("a", at(10), 0.0)
    queue.offer("a", at(10), 1.0)
    assert queue.next_at() == math.inf
    queue.offer("a", at(20), 2.0)
    assert queue.next_at() == WAIT_INTERVAL


def test_what_is_again_as_it_was_written_is_not_written() -> None:
    queue = WriteQueue[str]()
    queue.begin("a", at(10), 0.0)
    queue.offer("a", at(20), 1.0)
    queue.offer("a", at(10), 2.0)
    assert queue.next_at() == math.inf


def test_of_a_wait_that_has_ended_nothing_is_written() -> None:
    queue = WriteQueue[str]()
    queue.begin("a", BEGIN, 0.0)
    queue.offer("a", at(20), 1.0)
    queue.end("a")
    queue.offer("a", at(30), 2.0)
    assert queue.next_at() == math.inf
    assert queue.take(1000.0) is None


def test_a_new_state_is_tried_again_and_mere_progress_is_not() -> None:
    for snapshot, tried_again in ((at(20), False), (at(20, "Committing"), True)):
        queue = WriteQueue[str]()
        queue.begin("a", at(10), 0.0)
        queue.offer("a", snapshot, 40.0)
        assert queue.take(40.0) == ("a", snapshot)
        queue.failed("a", snapshot, 41.0)
        assert (queue.next_at() < math.inf) is tried_again
        assert queue.take(41.0 + WAIT_INTERVAL) is None  # the process as a whole pauses longer
        assert (queue.take(200.0) is not None) is tried_again


def test_a_newer_snapshot_takes_the_place_of_one_that_failed() -> None:
    queue = WriteQueue[str]()
    queue.begin("a", at(10), 0.0)
    queue.offer("a", at(20, "Committing"), 40.0)
    found = queue.take(40.0)
    assert found is not None
    queue.offer("a", at(30, "Committing"), 40.5)
    queue.failed(*found, 41.0)
    assert queue.take(200.0) == ("a", at(30, "Committing"))


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 3), st.floats(0, 20)), max_size=60))
def test_no_wait_and_no_process_writes_too_often_and_the_last_word_is_written(
    offers: list[tuple[str, int, float]],
) -> None:
    queue, now = WriteQueue[str](), 0.0
    for key in "abcde":
        queue.begin(key, BEGIN, now)
    written: dict[str, list[tuple[float, Snapshot]]] = {key: [] for key in "abcde"}
    latest: dict[str, Snapshot] = {}

    def write_until(end: float) -> None:
        nonlocal now
        while (due := queue.next_at()) <= end:
            now = max(now, due)
            found = queue.take(now)
            assert found is not None
            written[found[0]].append((now, found[1]))
            queue.wrote(*found, now)
        now = end

    for key, percent, pause in offers:
        write_until(now + pause)
        latest[key] = at(percent)
        queue.offer(key, latest[key], now)
    write_until(now + 1000)
    moments = sorted(moment for found in written.values() for moment, _ in found)
    assert all(later - earlier >= PROCESS_INTERVAL - 1e-6 for earlier, later in pairwise(moments))
    for key, found in written.items():
        times = [moment for moment, _ in found]
        assert all(later - earlier >= WAIT_INTERVAL - 1e-6 for earlier, later in pairwise(times))
        assert [snapshot for _, snapshot in found][-1:] == ([latest[key]] if key in latest else [])
