"""Many jobs in one wait, over the polls of a simulated server, in virtual time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_zilliz._poller import list_poll
from airflow_zilliz._poller.list_poll import ListPoll
from airflow_zilliz._protocol.constants import DESCRIBE, LIST
from airflow_zilliz._protocol.models import ImportState
from airflow_zilliz._protocol.responses import Response
from airflow_zilliz._protocol.target import Target
from airflow_zilliz._transport import rate_limiter
from airflow_zilliz._transport.endpoint import Endpoint
from airflow_zilliz._wait.list_outcome import ListOutcome
from airflow_zilliz._wait.list_wait import CHECKPOINT_EVERY, ListPlan, ListWait
from airflow_zilliz._wait.outcome import Ending
from airflow_zilliz._wait.policy import WaitPolicy
from airflow_zilliz.exceptions import ZillizConfigError
from airflow_zilliz.hooks import ZillizHook
from tests.helpers import virtual
from tests.helpers.virtual import EPOCH, Job, Server, Trouble

START = 1000.0


@dataclass
class Server5(Server):
    """A server whose jobs have five rows each."""

    reasons: dict[str, str] = field(default_factory=dict)

    def _describe(self, job_id: str) -> Response:
        answer = super()._describe(job_id)
        body = json.loads(answer.body)
        if "data" in body:
            done = body["data"]["state"] == "Completed"
            body["data"] |= {"importedRows": 5 if done else 2, "totalRows": 5}
            if body["data"]["state"] == "Failed":
                body["data"]["reason"] = self.reasons.get(job_id, f"row 8 of {job_id}")
        return Response(answer.status, json.dumps(body).encode(), {}, "u")


@dataclass
class Ran:
    """What came of a wait. Times are seconds since its begin."""

    outcome: ListOutcome | None
    took: float
    lines: list[tuple[float, str]] = field(default_factory=list)

    def texts(self, part: str) -> list[str]:
        return [text for _, text in self.lines if part in text]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Return what runs one wait for jobs to its end."""
    rate_limiter.forget_limits()

    async def look_up(hook: ZillizHook) -> Endpoint:
        return Endpoint(hook.zilliz_conn_id, "http://simulated.test", "k" * 20, max_requests_per_second=10)

    monkeypatch.setattr(ZillizHook, "aendpoint", look_up)

    def run(server: Server, once: float | None = None, timeout: float = 10**6, **plan: Any) -> Ran:
        async def main() -> Ran:
            loop = server.loop
            now = EPOCH + loop.now
            monkeypatch.setattr(list_poll, "time", SimpleNamespace(time=lambda: EPOCH + loop.now + server.asleep))
            lines: list[tuple[float, str]] = []

            async def log(notes: tuple[tuple[int, str], ...]) -> None:
                lines.extend((loop.now - START, text) for _, text in notes)

            planned = ListPlan("conn", Target(), WaitPolicy(poke_interval=30.0), now, now + timeout, **plan)
            poll = ListPoll(ListWait(planned, list(server.jobs), now), log)
            outcome = await (poll.run(2.0) if once is None else poll.run_once(once))
            return Ran(outcome, loop.now - START, lines)

        return virtual.run(main(), server, monkeypatch)

    return run


def jobs(number: int, spread: float, failed: int = 0) -> dict[str, Job]:
    made = [Job(f"job-{index}", START + spread * (index + 1) / number) for index in range(number)]
    for job in made[:failed]:
        job.outcome = "Failed"
    return {job.id: job for job in made}


def test_a_thousand_jobs_end_within_an_interval_of_the_last_one_and_all_have_rows(run: Callable[..., Ran]) -> None:
    server = Server5(jobs(1000, 300.0), per_second=20)
    ran = run(server)
    assert ran.outcome is not None
    assert ran.outcome.ending is Ending.REACHED
    assert sorted(job.job_id for job in ran.outcome.ended) == sorted(server.jobs)
    assert {job.imported_rows for job in ran.outcome.ended} == {5}
    assert ran.took <= 300 + 30 + 10
    assert not server.refused
    assert len(server.sent[DESCRIBE]) <= 1100
    event = ran.outcome.as_event()
    assert len(json.dumps(event)) < 60_000
    assert ListOutcome.from_event(json.loads(json.dumps(event))).ended == ran.outcome.ended  # type: ignore[union-attr] # read


def test_failed_jobs_are_logged_once_with_their_reasons_and_end_nothing(run: Callable[..., Ran]) -> None:
    ran = run(Server5(jobs(50, 120.0, failed=3)))
    assert ran.outcome is not None
    assert ran.outcome.ending is Ending.REACHED
    assert sum(job.state is ImportState.FAILED for job in ran.outcome.ended) == 3
    for number in range(3):
        assert len(ran.texts(f"row 8 of job-{number}")) == 1


def test_the_first_failure_ends_it_where_that_is_wanted(run: Callable[..., Ran]) -> None:
    ran = run(Server5(jobs(50, 600.0, failed=1)), fail_fast=True)
    assert ran.outcome is not None
    assert ran.outcome.ending is Ending.JOB_FAILED
    assert ran.took < 120


def test_one_line_a_minute_says_how_far_the_jobs_are(run: Callable[..., Ran]) -> None:
    ran = run(Server5(jobs(100, 600.0)))
    lines = [(at, text) for at, text in ran.lines if text.startswith("100 jobs: ")]
    assert 8 <= len(lines) <= 12
    assert all(later - earlier >= 60 for (earlier, _), (later, _) in pairwise(lines))
    assert any("left" in text and " Completed, " in text and " Importing; " in text for _, text in lines)
    assert len(ran.lines) == len(lines), "nothing else is logged where nothing is wrong"


def test_a_server_that_is_away_makes_a_few_lines_for_a_thousand_jobs(run: Callable[..., Ran]) -> None:
    server = Server5(jobs(1000, 500.0), troubles=[Trouble(START + 60, 120, "503")])
    ran = run(server)
    assert ran.outcome is not None
    assert ran.outcome.ending is Ending.REACHED
    others = [text for _, text in ran.lines if " jobs: " not in text]
    assert 2 <= len(others) <= 8, others


def test_what_has_ended_is_written_down_after_an_hour(run: Callable[..., Ran]) -> None:
    server = Server5(jobs(20, 10 * CHECKPOINT_EVERY))
    ran = run(server)
    assert ran.outcome is not None
    assert ran.outcome.ending is None
    assert round(ran.took) in range(3600, 3661)
    assert [job.job_id for job in ran.outcome.ended] == ["job-0"]
    assert all(ran.outcome.memory.of(f"job-{number}").at for number in range(1, 20))


def test_a_wave_that_has_ended_pauses_it(run: Callable[..., Ran]) -> None:
    ran = run(Server5(jobs(20, 200.0)), checkpoint_jobs=5)
    assert ran.outcome is not None
    assert ran.outcome.ending is None
    assert len(ran.outcome.ended) == 5


def test_it_times_out_with_the_open_jobs_named_and_what_has_ended(run: Callable[..., Ran]) -> None:
    ran = run(Server5(jobs(20, 200.0)), timeout=100)
    assert ran.outcome is not None
    assert ran.outcome.ending is Ending.TIMED_OUT
    assert {job.job_id for job in ran.outcome.ended} >= {f"job-{number}" for number in range(7)}
    assert "job-19" in ran.outcome.message
    assert "open: " in ran.outcome.message


def test_a_job_that_the_server_does_not_know_ends_it_after_a_minute(run: Callable[..., Ran]) -> None:
    server = Server5(jobs(20, 200.0))
    server.jobs["job-7"].known = False
    ran = run(server)
    assert ran.outcome is not None
    assert ran.outcome.ending is Ending.UNKNOWN_JOB
    assert "does not know import job 'job-7'" in ran.outcome.message
    assert 60 <= ran.took <= 100


def test_no_end_comes_before_the_first_poll_is_due(run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(hook: ZillizHook) -> Endpoint:
        raise ZillizConfigError("there is no such connection")

    monkeypatch.setattr(ZillizHook, "aendpoint", look_up)
    ran = run(Server5(jobs(20, 60.0)))
    assert ran.outcome is not None
    assert ran.outcome.ending is Ending.MISCONFIGURED
    assert ran.took >= 2.0


def test_events_that_are_full_lose_nothing(run: Callable[..., Ran]) -> None:
    """All fail at once, with reasons that have nothing in common."""
    server, found = Server5(jobs(1200, 20.0, failed=1200)), []
    server.reasons = {job_id: f"{job_id} {hashlib.sha512(job_id.encode()).hexdigest()}" for job_id in server.jobs}
    while server.jobs:
        outcome = run(server).outcome
        assert outcome is not None
        assert len(json.dumps(outcome.as_event())) < 60_000
        found += [job.job_id for job in outcome.ended]
        server.jobs = {job_id: job for job_id, job in server.jobs.items() if job_id not in found}
    assert len(found) == len(set(found)) == 1200


def test_one_pass_polls_each_job_and_describes_what_has_ended(run: Callable[..., Ran]) -> None:
    server = Server5(jobs(300, 10**5))
    for job in list(server.jobs.values())[:10]:
        job.end = START - 1
    ran = run(server, once=30.0)
    assert ran.outcome is None
    assert ran.took < 10
    assert len(server.sent[LIST]) <= 12
    assert len(ran.lines) == 1


def test_one_pass_ends_at_once_where_all_jobs_have_ended(run: Callable[..., Ran]) -> None:
    ran = run(Server5(jobs(10, -1.0)), once=30.0)
    assert ran.outcome is not None
    assert ran.outcome.ending is Ending.REACHED
    assert len(ran.outcome.ended) == 10
