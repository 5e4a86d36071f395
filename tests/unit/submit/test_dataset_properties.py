"""A dataset's plan and ledger: no file is lost and none is in two jobs, whatever a server and Airflow do."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_zilliz._submit.dataset import FileGroup, PlannedJob, split
from airflow_zilliz._submit.ledger import Abort, Commit, Enter, Entry, Finish, Ledger, Pause, Phase, Send, Stage, Wait
from airflow_zilliz._submit.record import Record

SIZES = st.none() | st.integers(0, 1000)
LIMITS = st.tuples(st.integers(6, 20), st.none() | st.integers(1, 3000))


@st.composite
def groups(draw: st.DrawFn) -> list[FileGroup]:
    counts = draw(st.lists(st.integers(1, 6), max_size=40))
    names = iter(range(1000))
    return [FileGroup(tuple(f"d/{next(names)}" for _ in range(count)), draw(SIZES)) for count in counts]


def fits(job: PlannedJob, limits: tuple[int, int | None]) -> bool:
    max_files, max_bytes = limits
    size = sum(group.size or 0 for group in job.groups)
    return len(job.paths) <= max_files and (max_bytes is None or size <= max_bytes)


@given(groups(), LIMITS)
def test_each_file_is_in_exactly_one_job_of_a_plan(found: list[FileGroup], limits: tuple[int, int | None]) -> None:
    jobs = split(found, *limits)
    assert sorted(group.paths for job in jobs for group in job.groups) == sorted(group.paths for group in found)
    assert all(fits(job, limits) or len(job.groups) == 1 for job in jobs)
    for one, other in itertools.pairwise(jobs):
        assert not fits(PlannedJob((*one.groups, other.groups[0])), limits), "jobs are few"


@given(groups(), LIMITS, st.randoms(use_true_random=False))
def test_the_same_files_make_the_same_jobs(
    found: list[FileGroup], limits: tuple[int, int | None], shuffle: random.Random
) -> None:
    others = list(found)
    shuffle.shuffle(others)
    assert split(others, *limits) == split(found, *limits)


class World:
    """A server and an Airflow that do whatever is drawn: jobs fail, the server is full, the worker dies."""

    def __init__(self, jobs: int, most: int, is_atomic: bool, draw: Any) -> None:
        plan = [PlannedJob((FileGroup((f"{number}",)),)) for number in range(jobs)]
        self.ledger = Ledger.of(plan, is_atomic=is_atomic)
        self.most = most
        self.draw = draw
        self.try_number = 1
        self.made = 0
        #: each job's place in the plan, and what is true of it
        self.jobs: dict[str, list[Any]] = {}

    def loaded(self) -> list[int]:
        return sorted(index for index, state in self.jobs.values() if state == "Completed")

    def run(self, *, is_stable: bool) -> None:
        """Run one try, to its end or to the death of its worker."""
        self.ledger = self.ledger.for_try(self.try_number)
        for _ in range(500):
            if not is_stable and self.draw(st.integers(0, 6)) == 0:
                return self.die()
            step = self.ledger.next(self.most, has_room=is_stable or self.draw(st.booleans()))
            if isinstance(step, Finish):
                return self.die()
            self.take(step, is_stable=is_stable)
        raise AssertionError("a try ends")

    def die(self) -> None:
        stored = [Entry.from_json(json.loads(json.dumps(entry.as_json()))) for entry in self.ledger.entries]
        assert tuple(stored) == self.ledger.entries
        self.try_number += 1

    def put(self, index: int, stage: Stage, record: Record | None, **more: Any) -> None:
        self.ledger = self.ledger.with_entry(index, Entry(stage, record, self.try_number, **more))

    def take(self, step: Any, *, is_stable: bool) -> None:
        match step:
            case Send(index):
                assert len(self.ledger.at(Stage.RUNNING)) < self.most
                self.send(index)
            case Wait(indices, wake_after):
                assert 0 < (wake_after or 1) <= len(indices)
                for index in indices[:wake_after]:
                    self.end(index, fails=not is_stable and self.draw(st.integers(0, 4)) == 0)
            case Enter(phase):
                self.ledger = Ledger(self.ledger.jobs, self.ledger.entries, self.ledger.is_atomic, phase)
            case Commit(indices):
                states = [self.jobs[str(self.ledger.entries[index].job_id)] for index in range(len(self.ledger.jobs))]
                assert all(state in ("Uncommitted", "Completed") for _, state in states), "all are loaded first"
                for index in indices[: self.some(indices, is_stable)]:
                    self.jobs[str(self.ledger.entries[index].job_id)][1] = "Completed"
                    self.put(index, Stage.COMMITTED, self.ledger.entries[index].record)
            case Abort(indices):
                for index in indices[: self.some(indices, is_stable)]:
                    entry = self.ledger.entries[index]
                    assert self.jobs[str(entry.job_id)][1] != "Completed"
                    self.jobs[str(entry.job_id)][1] = "Failed"
                    self.put(index, Stage.FAILED, entry.record and entry.record.failed(), reason="aborted")
            case _:
                assert isinstance(step, Pause)

    def some(self, indices: tuple[int, ...], is_stable: bool) -> int:
        return len(indices) if is_stable else int(self.draw(st.integers(1, len(indices))))

    def send(self, index: int) -> None:
        """Do what `submit_once` does: find an earlier try's job, or start another after a Failed one."""
        record = self.ledger.entries[index].record
        mine = [job_id for job_id, (place, state) in self.jobs.items() if place == index and state != "Failed"]
        assert len(mine) <= 1
        if not mine:
            self.made += 1
            mine = [f"job {self.made}"]
            self.jobs[mine[0]] = [index, "Importing"]
        turn = record.turn if record is not None else 1
        self.put(index, Stage.RUNNING, Record("k", "d", turn, job_id=mine[0]))

    def end(self, index: int, *, fails: bool) -> None:
        entry = self.ledger.entries[index]
        job = self.jobs[str(entry.job_id)]
        is_loading = self.ledger.is_atomic and entry.stage is Stage.RUNNING
        if job[1] == "Importing":
            job[1] = "Failed" if fails else "Uncommitted" if is_loading else "Completed"
        if job[1] == "Failed":
            self.put(index, Stage.FAILED, entry.record and entry.record.failed(), reason="broken")
        elif job[1] == "Completed":
            self.put(index, Stage.COMPLETED, entry.record, result={"state": "Completed"})
        else:
            self.put(index, Stage.LOADED, entry.record)


@given(st.integers(0, 8), st.integers(1, 4), st.booleans(), st.integers(0, 5), st.data())
def test_tries_load_each_job_once(jobs: int, most: int, is_atomic: bool, tries: int, data: Any) -> None:
    world = World(jobs, most, is_atomic, data.draw)
    for _ in range(tries):
        world.run(is_stable=False)
        assert len(set(world.loaded())) == len(world.loaded()), "none is loaded twice"
    for _ in range(3):  # what an earlier try began to abort is finished, and then all of it is loaded
        world.run(is_stable=True)
    assert world.loaded() == list(range(jobs)), "none is lost"
    assert world.ledger.at(Stage.COMPLETED) == tuple(range(jobs))
    assert world.ledger.phase is (Phase.COMMITTING if is_atomic and jobs else Phase.LOADING)


@given(st.integers(1, 8), st.integers(1, 4), st.data())
def test_an_atomic_import_shows_no_row_before_all_are_loaded(jobs: int, most: int, data: Any) -> None:
    world = World(jobs, most, True, data.draw)
    for _ in range(4):
        world.run(is_stable=False)
        if world.ledger.phase is not Phase.COMMITTING:
            assert world.loaded() == []
