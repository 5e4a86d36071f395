"""What the user asked of a wait, and how long it pauses between polls."""

from __future__ import annotations

import functools
import math
import zlib
from dataclasses import dataclass

from airflow_zilliz._protocol.models import ImportState

#: A young wait polls again after this many seconds, later after a tenth of its age, up to poke_interval.
SHORTEST_YOUNG_DELAY = 2.0
#: Keeps poke_interval=0 from being a busy loop.
SHORTEST_DELAY = 0.1
#: How many polls it may take to grow from SHORTEST_YOUNG_DELAY to poke_interval.
_POLLS_TO_GROW = 29


@dataclass(frozen=True, slots=True)
class WaitPolicy:
    """What the user asked of a wait; thousands may share one. All except the state and the flags are seconds.

    :param poke_interval: the longest pause between two polls, unless backing off
    :param poll_failure_tolerance: how long polls may go without a usable response
    :param stall_warning: how long nothing may change before a warning; None for no warning
    :param eager: poll more often while the wait is young
    :param exponential_backoff: double the pause from poke_interval up to ``max_wait``
    :param ignore_errors: Airflow's ``silent_fail``: no error of polling ends the wait before its deadline
    """

    target_state: ImportState = ImportState.COMPLETED
    poke_interval: float = 30.0
    poll_failure_tolerance: float = 600.0
    stall_warning: float | None = 1800.0
    eager: bool = True
    exponential_backoff: bool = False
    max_wait: float | None = None
    ignore_errors: bool = False

    def delay(
        self, age: float, spread: float = 1.0, retry_after: float | None = None, at_most: float = math.inf
    ) -> float:
        """Return the seconds until a wait's next poll, never before ``retry_after``.

        :param age: seconds since the wait began
        :param spread: the fraction of a young wait's pauses to use, see `spread_of`
        :param at_most: the longest pause in seconds, which is limited while there is trouble
        """
        age = max(0.0, age)
        if self.exponential_backoff:
            base = max(self.poke_interval, 1.0)
            delay = base * 2.0 ** min(64, math.floor(math.log2(age / base + 1)))
            delay = min(delay, self.max_wait) if self.max_wait is not None else delay
        else:
            delay = min(self.poke_interval, self._growing(age)) if self.eager else self.poke_interval
        if age < 10 * self.poke_interval:  # later, it would make a long wait cost more polls than poke_interval says
            delay *= spread
        if delay > at_most:
            delay = max(at_most * spread, SHORTEST_YOUNG_DELAY)  # waits that fail together are retried in turn
        delay = max(delay, SHORTEST_DELAY)
        if retry_after is not None:
            delay = max(delay, retry_after * (2 - spread))
        return delay

    def _growing(self, age: float) -> float:
        """Return a tenth of the age, or more if reaching a long poke_interval would take too many polls."""
        if age < 6 * SHORTEST_YOUNG_DELAY:  # a job of 10 s is noticed within 2 s, however long poke_interval is
            return SHORTEST_YOUNG_DELAY
        return max(SHORTEST_YOUNG_DELAY, age * _part_of_age(self.poke_interval, SHORTEST_YOUNG_DELAY))


@functools.cache
def _part_of_age(poke_interval: float, shortest: float) -> float:
    steps = math.log(max(1.0, poke_interval / shortest)) / _POLLS_TO_GROW
    return max(0.1, math.expm1(steps))


def spread_of(job_id: str, started_at: float) -> float:
    """Return a wait's spread, 0.9 to 1: waits that began together poll at different times, in each process alike."""
    return 1 - 0.1 * (zlib.crc32(f"{job_id} {started_at}".encode()) / 2**32)
