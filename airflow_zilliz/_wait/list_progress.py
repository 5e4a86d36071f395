"""The progress of many jobs: as a value, and as a log line. No I/O, no clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from airflow_zilliz._protocol.models import ImportState
from airflow_zilliz._wait.checkpoint import duration
from airflow_zilliz._wait.job_results import Tally
from airflow_zilliz._wait.state_machine import ImportWait
from airflow_zilliz._wait.texts import plural

NOT_SEEN = "not seen yet"
_COMPLETED, _FAILED = ImportState.COMPLETED.value, ImportState.FAILED.value


@dataclass(frozen=True, slots=True)
class ListProgress:
    """The progress of many jobs at one moment.

    :param jobs: how many there are, including ended ones
    :param states: how many are in each state, the ended ones first
    :param part: the fraction that is done, 0 to 1: by rows if all totals are known, else by percentages
    :param rows: imported so far, as far as known
    :param total_rows: of all of them; None unless it is known of each
    :param seconds_left: an estimate of the time left; None if unknown
    """

    jobs: int
    states: tuple[tuple[str, int], ...]
    part: float
    rows: int
    total_rows: int | None
    seconds_left: float | None = None

    @property
    def text(self) -> str:
        """The line, without the time left."""
        counts = ", ".join(f"{number:,} {state}" for state, number in self.states)
        percent = f"{int(self.part * 100)} %"
        if self.total_rows:
            percent += f" of {counted(self.total_rows)} rows"
        elif self.rows:
            percent += f", {counted(self.rows)} rows so far"
        return f"{plural(self.jobs, 'job')}: {counts}; {percent}"

    @property
    def line(self) -> str:
        """The line for the log."""
        return self.text + (f", about {duration(self.seconds_left)} left" if self.seconds_left is not None else "")


def progress_of(ended: Tally, waits: Iterable[ImportWait], reached: str = _COMPLETED) -> ListProgress:
    """Return the progress of jobs.

    :param ended: those that have ended
    :param waits: those that have not
    :param reached: the state of the ended ones that did not fail
    """
    states: Counter[str] = Counter()
    rows, total, unknown, percents, number = ended.rows, ended.total_rows, ended.unknown, 0, 0
    for wait in waits:
        number += 1
        states[wait.state_word or NOT_SEEN] += 1
        seen = wait.seen
        rows += seen.rows or 0
        percents += seen.percent or 0
        if seen.total_rows is None:
            unknown += 1
        else:
            total += seen.total_rows
    jobs = ended.ended + number
    knows_all = not unknown and total > 0
    part = rows / total if knows_all else (ended.ended + percents / 100) / max(jobs, 1)
    running = states.most_common()
    counts = ((reached, ended.ended - ended.failed), (_FAILED, ended.failed), *running)
    found = tuple((state, count) for state, count in counts if count)
    return ListProgress(jobs, found, min(part, 1.0), rows, total if knows_all else None)


def counted(rows: int) -> str:
    """Return a readable number: 12,345 or 3.1 billion."""
    for size, word in ((10**9, "billion"), (10**6, "million")):
        if rows >= size:
            return f"{rows / size:.1f} {word}"
    return f"{rows:,}"
