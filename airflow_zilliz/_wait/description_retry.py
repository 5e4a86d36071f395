"""How long a resumed task retries the description of a job that a job list showed as ended. No I/O, no clock."""

from __future__ import annotations

import random
from dataclasses import dataclass

from airflow_zilliz._wait.outcome import Ending
from airflow_zilliz.exceptions import ZillizUnavailable

#: For how long the description of such a job is retried before the list's state is used, in seconds.
DESCRIPTION_PATIENCE = {Ending.REACHED: 30.0, Ending.JOB_FAILED: 120.0}
#: Rate limiting does not count against that for so long, since the server is healthy and responds to others.
THROTTLED_PATIENCE = 1800.0
#: A pause after a 429 is drawn from 0 to so many seconds, doubled each time, since many tasks resume together.
FIRST_WINDOW = 2.0
LAST_WINDOW = 20.0
#: The longest Retry-After that is honoured while a worker is held, in seconds.
LONGEST_RETRY_AFTER = 60.0


@dataclass(slots=True)
class DescriptionRetry:
    """The retries of one task.

    :param seed: the seed of the task's random pauses, different for each task
    :param began: when the first request was made, epoch seconds
    """

    seed: str
    began: float
    _failures: int = 0
    _refusals: int = 0
    _asked: float = 0.0
    _throttled: float = 0.0
    _was_refused: bool = False

    def pause(self, ending: Ending, error: ZillizUnavailable, now: float) -> float | None:
        """Return the seconds until the next request, None to use the list's state.

        :param now: when the error came, epoch seconds
        """
        if self._was_refused:
            self._throttled += max(0.0, now - self._asked)
        self._asked = now
        self._was_refused = error.is_throttling
        self._failures += 1
        drawn = random.Random(f"{self.seed} {self._failures}").random()  # noqa: S311 - not for secrets
        waited = max(0.0, now - self.began - self._throttled)
        if error.is_throttling:
            if self._throttled >= THROTTLED_PATIENCE:
                return None
            window = min(FIRST_WINDOW * 2.0**self._refusals, LAST_WINDOW)
            self._refusals = min(self._refusals + 1, 16)
            return min(error.retry_after or 0.0, LONGEST_RETRY_AFTER) + drawn * window
        if waited >= DESCRIPTION_PATIENCE[ending]:
            return None
        # at most half of the patience, so that a Retry-After of an hour holds no worker
        pause = max(2.0, min(error.retry_after or waited, DESCRIPTION_PATIENCE[ending] / 2))
        return pause * (0.75 + drawn / 2)
