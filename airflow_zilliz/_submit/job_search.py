"""Finds the job of an import in a server's job list, without I/O and without a clock."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import Any

from airflow_zilliz._protocol import calls
from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz._protocol.responses import Response
from airflow_zilliz._protocol.target import Target
from airflow_zilliz._submit.file_matching import Match, match_files
from airflow_zilliz._submit.record import CLOCK_SKEW, PATIENCE, Patience
from airflow_zilliz.exceptions import ZillizApiError, ZillizError, ZillizJobNotFound, ZillizUnavailable

#: The most jobs of a collection that are described in search of one; with more, the search is undecided.
MAX_CANDIDATES = 300
#: A job that is older than the request by this many seconds is not its job, however far apart clocks are.
CERTAINLY_OLDER = 3600.0


@dataclass(frozen=True)
class Pause:
    """Asks the driver of a flow to wait, in seconds."""

    seconds: float


@dataclass(frozen=True)
class Clock:
    """Asks the driver of a flow for the time, in epoch seconds."""


@dataclass(frozen=True)
class Log:
    """Asks the driver of a flow to log a line."""

    level: int
    text: str


@dataclass(frozen=True)
class Wanted:
    """The import whose job is searched for.

    :param groups: its files
    :param whole_paths: whether the server shows exactly the requested paths
    """

    collection_name: str
    target: Target
    groups: Sequence[Sequence[str]]
    whole_paths: bool


@dataclass(frozen=True)
class SearchResult:
    """The result of a search: a job, or why it is undecided, or neither if there is no such job."""

    job_id: str | None = None
    in_doubt: str | None = None


@dataclass(frozen=True)
class Described:
    """A job, None for one that the server does not know.

    :param server_time: the server's clock, if the response has it
    """

    job: ImportProgress | None
    server_time: datetime | None = None


class _Verdict(Enum):
    OURS = auto()
    OTHER = auto()
    UNCLEAR = auto()  # and will stay so
    NOT_YET = auto()  # later descriptions may decide


def describe(target: Target, job_id: str) -> Generator[Any, Any, Described]:
    """Describe a job.

    :raises ZillizError: no response says whether there is such a job
    """
    flow = calls.describe(job_id, target)
    response: Response | None = None
    try:
        request = next(flow)
        while True:
            try:
                response = yield request
            except ZillizError as err:
                request = flow.throw(err)
            else:
                request = flow.send(response)
    except StopIteration as done:
        return Described(done.value[0], _date_of(response))
    except ZillizJobNotFound:
        return Described(None, _date_of(response))


def list_jobs(wanted: Wanted) -> Generator[Any, Any, list[ImportProgress]]:
    """Return the jobs of the collection.

    :raises ZillizError: the list cannot be read
    """
    jobs: list[ImportProgress] = []
    walk = calls.ListWalk(wanted.target, wanted.collection_name)
    while not walk.is_over:
        jobs += yield from walk.next_page()
    # Zilliz Cloud does not document the filter, so it may send all
    return [job for job in jobs if job.collection_name in (None, wanted.collection_name)]


def age_of(job: ImportProgress, server_time: datetime | None, now: float) -> float | None:
    """Return how many seconds ago a job was created, None for unknown.

    The server's times are compared with its own clock if that is known, since clocks may differ.
    """
    return _seconds_since(job.create_time, server_time, now)


def _seconds_since(moment: datetime | None, server_time: datetime | None, now: float) -> float | None:
    if moment is None:
        return None
    return now - moment.timestamp() if server_time is None else (server_time - moment).total_seconds()


def _date_of(response: Response | None) -> datetime | None:
    """Return the server's clock from its response, None if it has none."""
    try:
        return parsedate_to_datetime(response.headers.get("date", "")) if response is not None else None
    except (TypeError, ValueError):
        return None


@dataclass(frozen=True)
class Search:
    """A search for the job of a request whose response is not known.

    :param known: ids that are not it, since they were there before; None for unknown
    :param since: epoch seconds of our own clock before which the request cannot have been sent; None for unknown
    """

    wanted: Wanted
    known: frozenset[str] | None
    since: float | None
    patience: Patience = PATIENCE

    def run(self) -> Generator[Any, Any, SearchResult]:
        """Search for the job, and wait for a while if jobs do not show their files yet.

        :raises ZillizError: the list, or a job that may be it, cannot be read
        """
        jobs = yield from list_jobs(self.wanted)
        open_jobs = [job for job in jobs if job.job_id not in (self.known or ())]
        if len(open_jobs) > MAX_CANDIDATES:
            return SearchResult(None, f"The server lists {len(open_jobs)} jobs of the collection that may be it")
        open_jobs.sort(key=lambda job: (len(job.job_id), job.job_id), reverse=True)  # ids of Milvus grow with time
        unclear: list[ImportProgress] = []
        for seconds in (*self.patience.pauses, None):
            ours, later, error = yield from self._round(open_jobs, unclear)
            if ours:
                break
            open_jobs = later
            if not open_jobs:
                break
            if seconds is None:
                if error is not None:
                    raise error
                unclear += yield from self._still_listed(open_jobs)
                break
            yield Pause(seconds)
        if len(ours) == 1:
            return SearchResult(ours[0].job_id)
        if ours or unclear:
            names = ", ".join(f"{job.job_id} ({job.state_word})" for job in [*ours, *unclear])
            return SearchResult(None, f"The server lists jobs of the collection that may be it: {names}")
        return SearchResult()

    def _round(
        self, open_jobs: list[ImportProgress], unclear: list[ImportProgress]
    ) -> Generator[Any, Any, tuple[list[ImportProgress], list[ImportProgress], ZillizUnavailable | None]]:
        """Describe jobs once; return those that are ours, and those that may show more later."""
        ours: list[ImportProgress] = []
        later: list[ImportProgress] = []
        error: ZillizUnavailable | None = None
        now = yield Clock()
        for listed in open_jobs:
            try:
                described = yield from describe(self.wanted.target, listed.job_id)
            except ZillizUnavailable as err:
                error = err
                later.append(listed)
                continue
            except ZillizApiError:
                later.append(listed)  # refused, which says nothing about the job: the list shows it
                continue
            if described.job is None:
                later.append(listed)  # a fail-over may know fewer jobs for a moment
                continue
            verdict = self._verdict(described.job, described.server_time, now)
            if verdict is _Verdict.OURS:
                ours.append(described.job)
            elif verdict is _Verdict.UNCLEAR:
                unclear.append(described.job)
            elif verdict is _Verdict.NOT_YET:
                later.append(described.job)
        return ours, later, error

    def _verdict(self, job: ImportProgress, server_time: datetime | None, now: float) -> _Verdict:
        has_failed = job.state is ImportState.FAILED
        if has_failed and job.complete_time is None:
            return _Verdict.OTHER  # it loaded nothing
        is_older = self._is_older(job, server_time, now)
        if is_older:
            return _Verdict.OTHER
        match = match_files(
            (part.file_name for part in job.details), self.wanted.groups, whole_paths=self.wanted.whole_paths
        )
        if match is Match.OTHER:
            return _Verdict.OTHER
        if match is Match.SAME:
            is_new = self.known is not None or is_older is False
            return _Verdict.OURS if is_new and not has_failed else _Verdict.UNCLEAR
        if job.state.is_final or (match is Match.SIMILAR and not self.wanted.whole_paths):
            return _Verdict.UNCLEAR
        return _Verdict.NOT_YET

    def _is_older(self, job: ImportProgress, server_time: datetime | None, now: float) -> bool | None:
        """Return whether a job was there before the request, None for unknown.

        If the ids from before are known, times are not needed.
        """
        if self.known is not None or self.since is None:
            return None
        age = now - self.since
        created = age_of(job, server_time, now)
        if created is not None and created <= age + CLOCK_SKEW:
            return False
        ended = _seconds_since(job.complete_time, server_time, now)
        oldest = max((seconds for seconds in (created, ended) if seconds is not None), default=None)
        return True if oldest is not None and oldest > age + CERTAINLY_OLDER else None

    def _still_listed(self, jobs: list[ImportProgress]) -> Generator[Any, Any, list[ImportProgress]]:
        listed = {job.job_id for job in (yield from list_jobs(self.wanted))}
        return [job for job in jobs if job.job_id in listed]
