"""What is known of a dataset's jobs, and what comes next: whatever happens in which order, each file is loaded once."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_zilliz._submit.dataset import FileGroup, split
from airflow_zilliz._submit.ledger import (
    Abort,
    Commit,
    Enter,
    Entry,
    Finish,
    Ledger,
    Pause,
    Phase,
    Send,
    Stage,
    Wait,
    wave,
)
from airflow_zilliz._submit.record import Record
from airflow_zilliz.exceptions import ZillizConfigError

RESULT = {"job_id": "1", "state": "Completed"}


def ledger_of(*stages: Stage, is_atomic: bool = False, phase: Phase = Phase.LOADING, try_number: int = 1) -> Ledger:
    ledger = Ledger.of(split([FileGroup((f"{n}",)) for n in range(len(stages))], 1), is_atomic=is_atomic)
    entries = tuple(
        Entry(stage, None if stage is Stage.OPEN else Record(f"k{n}", "d", job_id=f"job-{n}"), try_number)
        for n, stage in enumerate(stages)
    )
    return replace(ledger, entries=entries, phase=phase)


O, R, L, C, F, D = Stage.OPEN, Stage.RUNNING, Stage.LOADED, Stage.COMPLETED, Stage.FAILED, Stage.IN_DOUBT  # noqa: E741


@pytest.mark.parametrize(
    ("ledger", "step"),
    [
        (ledger_of(O, O), Send(0)),
        (ledger_of(R, O), Send(1)),
        (ledger_of(R, R, O), Wait((0, 1), 1)),
        (ledger_of(R, C), Wait((0,))),
        (ledger_of(F, O), Send(1)),
        (ledger_of(F, C, D), Finish()),
        (ledger_of(L, R, is_atomic=True), Wait((1,))),
        (ledger_of(L, L, is_atomic=True), Enter(Phase.COMMITTING)),
        (ledger_of(L, Stage.COMMITTED, is_atomic=True, phase=Phase.COMMITTING), Commit((0,))),
        (ledger_of(C, Stage.COMMITTED, is_atomic=True, phase=Phase.COMMITTING), Wait((1,))),
        (ledger_of(L, F, O, is_atomic=True), Enter(Phase.ABORTING)),
        (ledger_of(L, F, R, is_atomic=True, phase=Phase.ABORTING), Abort((0, 2))),
        (ledger_of(F, F, O, is_atomic=True, phase=Phase.ABORTING), Finish()),
    ],
)
def test_what_comes_next(ledger: Ledger, step: object) -> None:
    assert ledger.next(2) == step


def test_a_server_without_room_is_waited_for() -> None:
    assert ledger_of(R, O).next(2, has_room=False) == Wait((0,), 1)
    assert ledger_of(C, O).next(2, has_room=False) == Pause()


def test_what_was_started_is_submitted_before_what_was_not() -> None:
    ledger = ledger_of(O, R).for_try(2)
    assert ledger.next(1) == Send(1)


@pytest.mark.parametrize(("most", "running", "ended"), [(10, 10, 3), (10, 2, 2), (1, 1, 1), (4, 4, 1)])
def test_a_quarter_of_the_slots_makes_a_wave(most: int, running: int, ended: int) -> None:
    assert wave(most, running) == ended


def test_a_new_try_finds_everything_out_that_is_not_completed() -> None:
    found = ledger_of(O, R, C, F, D).for_try(2)
    assert [entry.stage for entry in found.entries] == [O, O, C, O, O]
    assert ledger_of(O, R, C, F, D).for_try(1) == ledger_of(O, R, C, F, D), "the same try goes on"


def test_a_new_try_finishes_the_commits_and_aborts_of_an_earlier_one() -> None:
    committing = ledger_of(L, Stage.COMMITTED, C, is_atomic=True, phase=Phase.COMMITTING)
    assert committing.for_try(2) == committing
    aborting = ledger_of(L, F, is_atomic=True, phase=Phase.ABORTING).for_try(2)
    assert (aborting.next(2), aborting.phase) == (Abort((0,)), Phase.ABORTING)
    assert ledger_of(F, F, is_atomic=True, phase=Phase.ABORTING).for_try(2).phase is Phase.LOADING


# -- corrected files ----------------------------------------------------------------------------------------------


def test_the_same_files_change_nothing() -> None:
    ledger = ledger_of(C, F, O, R)
    assert ledger.amended([FileGroup((f"{n}",)) for n in range(4)], 1) is ledger


@given(
    st.lists(st.sampled_from([O, R, C, F, D]), min_size=1, max_size=6),
    st.sets(st.integers(0, 20), min_size=1),
    st.integers(1, 4),
)
def test_corrected_files_move_no_file_that_may_be_loaded(stages: list[Stage], wanted: set[int], most: int) -> None:
    groups = [FileGroup((f"{n:02}",)) for n in range(2 * len(stages))]
    ledger = replace(ledger_of(*stages), jobs=tuple(split(groups, 2)))
    found = ledger.amended([FileGroup((f"{n:02}",)) for n in sorted(wanted)], most)
    times = Counter(path for job in found.jobs for path in job.paths)
    assert set(times.values()) == {1}, "no file is in two jobs"
    assert {f"{n:02}" for n in wanted} <= set(times)
    before = dict(zip(ledger.jobs, ledger.entries, strict=True))
    kept = {job: entry for job, entry in zip(found.jobs, found.entries, strict=True) if before.get(job) == entry}
    assert all(job in kept for job, entry in before.items() if entry.stage in (R, C, D))


def test_a_group_of_which_only_some_files_may_be_loaded_is_an_error() -> None:
    group = FileGroup(("id.npy", "vector.npy"))
    ledger = replace(ledger_of(C), jobs=tuple(split([group], 2)))
    with pytest.raises(ZillizConfigError, match=r"file 'price.npy' is in a group with files"):
        ledger.amended([FileGroup(("id.npy", "price.npy", "vector.npy"))], 3)
    assert ledger.amended([FileGroup(("vector.npy", "/id.npy"))], 3) is ledger, "the same files"


# -- reading back -------------------------------------------------------------------------------------------------

entries = st.builds(
    Entry,
    st.sampled_from(Stage),
    st.builds(Record, st.text(min_size=1), st.just("d"), st.integers(1, 50), job_id=st.just("7")),
    st.integers(0, 9),
    st.none() | st.text(),
    st.none() | st.just(RESULT),
)


@given(entries)
def test_an_entry_is_read_back_as_it_was(entry: Entry) -> None:
    assert Entry.from_json(json.loads(json.dumps(entry.as_json()))) == entry


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"stage": "gone"},
        {"stage": "running"},
        {"stage": "open", "record": 1},
        {"stage": "open", "try": "1"},
        {"stage": "open", "reason": 1},
        {"stage": "open", "result": []},
    ],
)
def test_what_is_no_entry_is_not_read(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of an enum, too
        Entry.from_json(value)


# -- whole lives --------------------------------------------------------------------------------------------------


class Life:
    """A server and a worker that may die between any two steps."""

    def __init__(self, jobs: int, most: int, is_atomic: bool, data: st.DataObject) -> None:
        self.ledger = ledger_of(*[O] * jobs, is_atomic=is_atomic)
        self.most = most
        self.visible: Counter[int] = Counter()
        self.data = data
        self.try_number = 0
        self.has_trouble = True
        self.aborts_since_now = False

    def put(self, index: int, stage: Stage, record: Record | None = None) -> None:
        self.ledger = self.ledger.with_entry(index, Entry(stage, record, self.try_number))

    def one_try(self) -> None:
        self.try_number += 1
        self.ledger, self.aborts_since_now = self.ledger.for_try(self.try_number), False
        while not (self.has_trouble and self.data.draw(st.integers(0, 9)) == 0):
            step = self.ledger.next(self.most)
            if isinstance(step, Finish):
                return
            self.do(step)

    def do(self, step: object) -> None:
        if isinstance(step, Enter):
            self.ledger = replace(self.ledger, phase=step.phase)
            self.aborts_since_now = step.phase is Phase.ABORTING
        elif isinstance(step, Send):
            assert self.visible[step.index] == 0, "what is in is not sent again"
            assert len(self.ledger.at(R)) < self.most
            self.put(step.index, R, Record("k", "d", job_id=f"job-{step.index}"))
        elif isinstance(step, Wait):
            self.wait(self.data.draw(st.sampled_from(step.indices)))
        elif isinstance(step, Commit):
            self.put(step.indices[0], Stage.COMMITTED, self.ledger.entries[step.indices[0]].record)
        elif isinstance(step, Abort):
            self.abort(step.indices[0])

    def wait(self, index: int) -> None:
        is_committed = self.ledger.entries[index].stage is Stage.COMMITTED
        record = self.ledger.entries[index].record
        if not is_committed and self.has_trouble and self.data.draw(st.booleans()):
            self.put(index, F)
        elif self.ledger.is_atomic and not is_committed:
            self.put(index, L, record)
        else:
            assert not self.ledger.is_atomic or not self.ledger.at(O, R, F), "none is visible before all are loaded"
            self.put(index, C, record)
            self.visible[index] += 1

    def abort(self, index: int) -> None:
        self.put(index, F if self.aborts_since_now else O)
        if not self.aborts_since_now and not self.ledger.at(R, L):
            self.ledger = replace(self.ledger, phase=Phase.LOADING)


@settings(max_examples=100)
@given(st.integers(1, 7), st.integers(1, 4), st.booleans(), st.data())
def test_each_job_is_completed_once_however_its_tries_end(
    jobs: int, most: int, is_atomic: bool, data: st.DataObject
) -> None:
    life = Life(jobs, most, is_atomic, data)
    for _ in range(4):
        life.one_try()
    life.has_trouble = False
    for _ in range(2):
        life.one_try()
    assert [entry.stage for entry in life.ledger.entries] == [C] * jobs
    assert life.visible == Counter(range(jobs)), "each is in, and once"
