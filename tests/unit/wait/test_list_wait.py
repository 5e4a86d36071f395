"""The wait for many jobs: each job's result is there once, whatever happens in between."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_zilliz._protocol.models import FileProgress, ImportProgress, ImportState
from airflow_zilliz._protocol.target import Target
from airflow_zilliz._wait.checkpoint import Checkpoint
from airflow_zilliz._wait.job_results import (
    Tally,
    event_of,
    job_of_result,
    pack_jobs,
    result_of,
    slim,
    unpack_jobs,
)
from airflow_zilliz._wait.list_memory import MAX_PACKED, Memory
from airflow_zilliz._wait.list_notes import ListNotes
from airflow_zilliz._wait.list_outcome import ListOutcome
from airflow_zilliz._wait.list_snapshot import snapshot_of_ended
from airflow_zilliz._wait.list_wait import ListPlan, ListWait
from airflow_zilliz._wait.outcome import Ending
from airflow_zilliz._wait.packing import pack, unpack
from airflow_zilliz._wait.policy import WaitPolicy
from airflow_zilliz._wait.snapshot_json import snapshot_json
from airflow_zilliz._wait.state_machine import ImportWait
from airflow_zilliz.exceptions import ZillizJobNotFound, ZillizUnavailable

START = 1_790_000_000.0
RETENTION = 3 * 3600.0
WHEN = datetime(2026, 9, 21, 12, 0, 1, 5000, tzinfo=timezone.utc)


def plan(**changes: Any) -> ListPlan:
    return ListPlan("conn", Target(), WaitPolicy(), START, **changes)


def job(job_id: str, state: ImportState = ImportState.COMPLETED, **facts: Any) -> ImportProgress:
    return ImportProgress(job_id, state, 100, **{"imported_rows": 5, "total_rows": 5, **facts})


# -- whatever the order of ends, forgets and restarts --------------------------------------------------------------


@dataclass
class World:
    """A server that forgets, a worker that writes down, and a triggerer that is killed now and then."""

    ends: dict[str, float]
    failed: frozenset[str]
    now: float = START
    recorded: dict[str, ImportProgress] = field(default_factory=dict)
    pauses: int = 0

    def described(self, job_id: str) -> ImportProgress | None:
        if self.now < self.ends[job_id]:
            return ImportProgress(job_id, ImportState.IMPORTING, 40, imported_rows=2, total_rows=5)
        if self.now > self.ends[job_id] + RETENTION:
            return None
        is_failed = job_id in self.failed
        return job(job_id, ImportState.FAILED, reason=f"of {job_id}") if is_failed else job(job_id)

    def record(self, outcome: ListOutcome) -> None:
        """Do as a worker: what crosses a process does so as JSON."""
        read = ListOutcome.from_event(json.loads(json.dumps(outcome.as_event())))
        assert read is not None
        for one in read.ended:
            assert one.job_id not in self.recorded, "it is waited for once"
            kept = job_of_result(json.loads(json.dumps(result_of(one))))
            assert kept is not None
            self.recorded[one.job_id] = kept

    def trigger(self, memory: Memory) -> Trigger:
        kept = Memory.unpacked(memory.packed())
        open_ids = [job_id for job_id in self.ends if job_id not in self.recorded]
        of = plan(checkpoint_at=self.now)
        return Trigger(self, lambda: ListWait(of, open_ids, self.now, kept, Tally.of(self.recorded.values())))


class Trigger:
    """Polls; it begins again from what it was made of when it is killed."""

    def __init__(self, world: World, make: Callable[[], ListWait]) -> None:
        self._world = world
        self._make = make
        self.restart()

    def restart(self) -> None:
        self.wait = self._make()
        self.open: dict[str, ImportWait] = {one.job_id: one for one in self.wait.begin()}

    def poll(self, job_id: str, how: str) -> ListOutcome | None:
        now, one, found = self._world.now, self.open[job_id], self._world.described(job_id)
        if how == "lost":
            step = one.on_error(ZillizUnavailable("timed out"), now)
        elif found is None:
            step = one.on_error(ZillizJobNotFound("no such job", code=2100), now)
        elif how == "listed" and one.can_be_listed:
            step = one.on_listed(ImportProgress(job_id, found.state, raw={}), now)
        else:
            step = one.on_progress(found, now)
        again = self.wait.on_decision(job_id, step, now)
        if again is not None:
            self.open[job_id] = again.wait
        elif step.is_last:
            del self.open[job_id]
        return self.wait.outcome(now)


EVENTS = st.lists(
    st.tuples(st.floats(60, 600), st.sampled_from(["poll", "kill"]), st.randoms(use_true_random=False)), max_size=60
)


@settings(deadline=None)
@given(
    ends=st.lists(st.floats(0, 6 * 3600), min_size=1, max_size=12),
    failed=st.sets(st.integers(0, 11)),
    events=EVENTS,
)
def test_each_result_is_there_once(ends: list[float], failed: set[int], events: list[tuple[float, str, Any]]) -> None:
    world = World({f"j{n}": START + end for n, end in enumerate(ends)}, frozenset(f"j{n}" for n in failed))
    trigger = world.trigger(Memory({}))
    regular = [(600.0, "poll", None)] * 60
    for seconds, what, random in [*events, *regular]:
        world.now += seconds
        if what == "kill":
            trigger.restart()
        order = list(trigger.open)
        if random is not None:
            random.shuffle(order)
        for job_id in [*order, *order]:  # a list's word is followed by a description
            if job_id not in trigger.open:
                continue
            how = random.choice(["listed", "described"]) if random is not None else "described"
            if (outcome := trigger.poll(job_id, how)) is not None:
                world.record(outcome)
                assert outcome.jobs_have_ended, outcome.message
                if outcome.ending is Ending.REACHED:
                    break
                trigger = world.trigger(outcome.memory)
                break
        if len(world.recorded) == len(ends):
            break
    assert set(world.recorded) == set(world.ends)
    for job_id, found in world.recorded.items():
        is_failed = job_id in world.failed
        assert found.state is (ImportState.FAILED if is_failed else ImportState.COMPLETED)
        assert found.imported_rows == 5
        assert found.reason == (f"of {job_id}" if is_failed else None)


# -- checkpoints --------------------------------------------------------------------------------------------------


def ended(wait: ListWait, one: ImportWait, found: ImportProgress, now: float) -> ListOutcome | None:
    wait.on_decision(one.job_id, one.on_progress(found, now), now)
    if wait.is_to_be_measured:
        wait.measure()
    return wait.outcome(now)


def test_a_full_event_pauses_it_before_it_is_too_large() -> None:
    """Reasons that have nothing in common, of 10,000 jobs that fail in one minute."""
    ids = [f"{453468002260053160 + 7919 * number}" for number in range(10_000)]
    wait = ListWait(plan(), ids, START)
    for number, one in enumerate(wait.begin()):
        reason = f"row {number * 7919 % 99991}: {pack([number * 6364136223846793005 % 2**64])[10:]}" * 5
        if (outcome := ended(wait, one, job(one.job_id, ImportState.FAILED, reason=reason), START + 1)) is not None:
            break
    assert outcome is not None
    assert outcome.ending is None
    assert len(outcome.ended) > 100
    assert len(json.dumps(outcome.as_event())) < 60_000


def test_a_restarted_machine_gathers_before_it_pauses() -> None:
    wait = ListWait(plan(checkpoint_at=START - 4 * 3600), ["a", "b", "c"], START)
    first, second, _ = wait.begin()
    assert ended(wait, first, job("a"), START + 1) is None
    assert wait.checkpoint_in(START + 1) == pytest.approx(59)
    assert ended(wait, second, job("b"), START + 2) is None
    outcome = wait.outcome(START + 60)
    assert outcome is not None
    assert [one.job_id for one in outcome.ended] == ["a", "b"]


def test_nothing_to_write_down_is_no_reason_to_pause() -> None:
    wait = ListWait(plan(), ["a"], START)
    list(wait.begin())
    assert wait.checkpoint_in(START + 9 * 3600) is None
    assert wait.outcome(START + 9 * 3600) is None


def test_reasons_may_be_withheld_from_event_and_log() -> None:
    wait = ListWait(plan(withhold_reasons=True), ["a"], START)
    (one,) = wait.begin()
    details = (FileProgress("f.json", ImportState.FAILED, 0, "secret"),)
    outcome = ended(wait, one, job("a", ImportState.FAILED, reason="secret", details=details), START)
    assert outcome is not None
    assert "secret" not in repr((outcome, wait.take_notes(START)))
    assert outcome.ended[0].state is ImportState.FAILED


# -- what crosses processes ---------------------------------------------------------------------------------------

TEXTS = st.none() | st.text(min_size=1, max_size=30).map(lambda text: text.strip("\x00 \n\r\t") or "x")
COUNTS = st.none() | st.integers(0, 2**62)


@given(rows=COUNTS, total=COUNTS, size=COUNTS, when=st.none() | st.just(WHEN), names=st.lists(st.text("ab/.")))
def test_a_job_is_the_same_behind_an_event_and_behind_an_xcom(
    rows: int | None, total: int | None, size: int | None, when: datetime | None, names: list[str]
) -> None:
    details = tuple(FileProgress(name or None, ImportState.COMPLETED, 100) for name in names)
    found = slim(
        job("1", imported_rows=rows, total_rows=total, file_size=size, complete_time=when, details=details),
        keep_files=True,
    )
    (read,) = unpack_jobs(json.loads(json.dumps(pack_jobs([found]))))
    again = job_of_result(json.loads(json.dumps(result_of(read))))
    assert again is not None
    for one in (read, again):
        assert one.result() == found.result()
        assert [part.file_name for part in one.details] == [name for name in names if name]


def test_a_failed_job_keeps_its_reason_and_its_first_failed_files() -> None:
    details = tuple(FileProgress(f"f{n}", ImportState.FAILED, 0, "r" * 500) for n in range(9))
    found = slim(job("1", ImportState.FAILED, reason="x" * 5000, details=details), keep_files=False)
    (read,) = unpack_jobs(pack_jobs([found]))
    assert read.reason is not None
    assert read.reason.startswith("x" * 1000 + "... (5,000")
    assert [name for name, _ in read.file_reasons] == ["f0", "f1", "f2"]


@pytest.mark.parametrize(
    "came",
    [
        None,
        7,
        "",
        "nonsense",
        pack("text"),
        pack([["1"]]),
        pack([["1"], ["Importing"]]),
        pack([[1], ["Completed"]]),
        pack([["1"], "Completed"]),
        pack([["1"], []]),
        pack({"1": "Completed"}),
        pack([["1"], ["Completed"]])[:-8],
    ],
)
def test_what_cannot_be_read_is_left_out(came: object) -> None:
    assert unpack_jobs(came) == []


@pytest.mark.parametrize(
    "came",
    [None, 7, "1", {}, {"job_id": 1, "state": "Completed"}, {"job_id": "1"}, {"job_id": "1", "state": "Importing"}],
)
def test_a_result_that_somebody_changed_is_none(came: object) -> None:
    assert job_of_result(came) is None


def test_a_packed_text_that_would_take_the_memory_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_zilliz._wait.packing.MAX_UNPACKED", 1000)
    assert unpack(pack("x" * 900)) == "x" * 900
    assert unpack(pack("x" * 1100)) is None


def test_sums_of_many_jobs() -> None:
    jobs = [
        job("1", collection_name="a", file_size=7, complete_time=WHEN),
        job("2", collection_name="a", file_size=8),
    ]
    assert event_of(jobs) == {
        "jobs": 2,
        "collection_name": "a",
        "imported_rows": 10,
        "total_rows": 10,
        "file_size": 15,
        "complete_time": WHEN.isoformat(),
        "duration": None,
    }
    mixed = event_of([*jobs, job("3", collection_name="b", imported_rows=None)])
    assert (mixed["collection_name"], mixed["imported_rows"]) == (None, None)


# -- the memory of open jobs --------------------------------------------------------------------------------------


def test_memory_keeps_who_was_seen_and_what_is_wrong() -> None:
    seen = {
        "a": Checkpoint(at=START, collection_name="books", told=("list",), state="Importing"),
        "b": Checkpoint(collection_name="books"),
        "c": Checkpoint(at=START, collection_name="books", unknown_since=START + 5, told=("unknown job",)),
        "d": Checkpoint(at=START, collection_name="books", distrusts_list=True),
    }
    memory = Memory.unpacked(Memory(seen).packed())
    assert [memory.of(one).at for one in "abcd"] == [START, None, START, START]
    assert memory.of("a").collection_name == "books"
    assert memory.of("a").told == ("list",)
    assert (memory.of("c").unknown_since, memory.of("a").unknown_since) == (START + 5, None)
    assert (memory.of("d").distrusts_list, memory.of("a").distrusts_list) == (True, False)


def test_trouble_is_counted_from_a_restart() -> None:
    seen = {"a": Checkpoint(trouble_since=START, polled_at=START + 9, due=START + 10)}
    memory = Memory.unpacked(Memory(seen).packed())
    assert memory.of("a").trouble_since == START
    again = memory.without_trouble_before(START + 500).of("a")
    assert (again.trouble_since, again.polled_at, again.due) == (START + 500, None, None)


def test_memory_of_thousands_in_trouble_has_room() -> None:
    seen = {
        f"{453468002260053160 + 7919 * n}": Checkpoint(
            trouble_since=START + n, polled_at=START + n, failed_at=START + n
        )
        for n in range(10_000)
    }
    assert len(Memory(seen).packed()) <= 200_000
    few = dict(list(seen.items())[:1000])
    assert len(Memory(few).packed()) <= MAX_PACKED


@pytest.mark.parametrize("came", [None, "", "x", pack([1]), pack({"unseen": [1], "odd": 7, "at": "x"})])
def test_memory_that_cannot_be_read_is_empty(came: object) -> None:
    assert Memory.unpacked(came).of("a") == Checkpoint()


# -- the log ------------------------------------------------------------------------------------------------------


def test_lines_of_one_kind_are_counted_after_the_first() -> None:
    notes = ListNotes(START)
    for number in range(500):
        notes.gather(f"{number}", [(30, f"Could not poll import job {number}: timed out")], START)
    assert notes.take(START) == ((30, "Could not poll import job 0: timed out"),)
    assert notes.take(START + 59) == ()
    ((_, text),) = notes.take(START + 60)
    assert text == "Could not poll import job 499: timed out (the last of 499 more lines like this)"
    notes.gather("1", [(30, "Import job 1 is Uncommitted: it needs a commit")], START + 60)
    assert len(notes.take(START + 60)) == 1, "another kind is logged at once"


# -- what a person is shown ----------------------------------------------------------------------------------------


def test_a_snapshot_lists_failed_jobs_first_and_counts_all() -> None:
    ids = [f"j{number}" for number in range(250)]
    wait = ListWait(plan(), ids, START, recorded=Tally(50, 0, 250, 250))
    waits = list(wait.begin())
    for one in waits[:120]:
        ended(wait, one, job(one.job_id), START + 1)
    ended(wait, waits[200], job("j200", ImportState.FAILED, reason="row 8"), START + 1)
    shown = snapshot_json(wait.snapshot(wait.progress(START + 2), START + 2))
    assert shown["counts"] == {"Completed": 170, "Failed": 1, "not seen yet": 129}
    assert (shown["jobs"][0]["name"], shown["jobs"][0]["reason"]) == ("j200", "row 8")
    assert (len(shown["jobs"]), shown["more"]) == (100, 200)
    assert (shown["state"], shown["rows"]) == ("Importing", 850)


def test_a_snapshot_of_what_is_written_down() -> None:
    shown = snapshot_json(snapshot_of_ended([job("1"), job("2")], ["3"], START, START + 9))
    assert (shown["counts"], shown["percent"]) == ({"Completed": 2, "not seen yet": 1}, 66)
    done = snapshot_json(snapshot_of_ended([job("1"), job("2", ImportState.FAILED)], [], START, START + 9))
    assert (done["state"], done["percent"]) == ("Failed", 100)
