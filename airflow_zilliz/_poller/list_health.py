"""Whether a target's job list can be used, and how many pages a walk through it takes. No I/O, no clock."""

from __future__ import annotations

import math

from airflow_zilliz._protocol.models import ImportProgress
from airflow_zilliz.exceptions import ZillizAuthError, ZillizUnavailable

#: A list that was refused or lacked a job is tried again after LIST_RETRY, one without a usable response sooner.
LIST_RETRY = 600.0
LIST_PAUSE = 60.0
#: Consecutive walks that fail while descriptions succeed before the list counts as useless, if the server or the key
#: may be the cause instead of the list.
MAX_WALK_FAILURES = 3
#: Descriptions that were refused for so long count as failing, and the list is tried.
REFUSED_FOR = 60.0


class JobList:
    """What is known of one target's job list."""

    def __init__(self) -> None:
        #: a walk failed, and no description since has shown whether only the list fails
        self.is_in_doubt = False
        #: the last description got no usable response, or they were refused for long, and no walk since missed a wait
        self.is_the_better_bet = False
        #: how many pages the last walk had, as long as that is not too old
        self.pages = 1
        self._pages_until = -math.inf
        self._off_until = -math.inf
        self._failures = 0
        self._failed_at = -math.inf
        self._described_at = -math.inf
        self._refused_since: float | None = None
        self._refused_walks = 0

    def is_off(self, now: float) -> bool:
        """Whether it was found useless recently, and is not requested."""
        return now < self._off_until

    def forget_old_pages(self, now: float) -> None:
        """Forget how long the list was: jobs come and go."""
        if now >= self._pages_until:
            self.pages = 1

    def on_described(self, outcome: ImportProgress | Exception, now: float) -> None:
        """Handle the result of a description; if lists and descriptions fail, they are tried in turn."""
        if isinstance(outcome, ZillizUnavailable) and outcome.is_throttling:
            self._refused_since = now if self._refused_since is None else self._refused_since
            self.is_the_better_bet = now - self._refused_since >= REFUSED_FOR
            return
        self.is_in_doubt = False
        self._refused_since = None
        self.is_the_better_bet = isinstance(outcome, ZillizUnavailable)
        if isinstance(outcome, ImportProgress):
            self._described_at = now

    def on_walk(self, pages: int, now: float, *, serves_all: bool = False) -> None:
        """Handle a completed walk.

        :param serves_all: whether it showed every wait's job, so that the next one may do so too
        """
        self._failures = self._refused_walks = 0
        self.is_the_better_bet &= serves_all
        self.pages, self._pages_until = pages, now + LIST_RETRY

    def on_failed_walk(self, error: Exception, now: float) -> bool:
        """Handle a failed walk; return whether the list counts as useless, which it then does for a while.

        Rate limiting says nothing about the list; if that goes on, the list is not requested for a while all the same.
        """
        self.is_the_better_bet = False
        if isinstance(error, ZillizUnavailable) and error.is_throttling:
            self._refused_walks += 1
            if self._refused_walks >= MAX_WALK_FAILURES:
                self._off_until = now + LIST_PAUSE
            return False
        self.is_in_doubt = True
        may_be_the_key = isinstance(error, ZillizAuthError) and error.concerns_every_job
        if isinstance(error, ZillizUnavailable) or may_be_the_key:
            others_succeed = self._described_at > self._failed_at
            self._failures = self._failures + 1 if others_succeed else 1
            self._failed_at = now
            if self._failures < MAX_WALK_FAILURES:
                return False
        self._failures = 0
        self._off_until = now + (LIST_PAUSE if isinstance(error, ZillizUnavailable) else LIST_RETRY)
        return True
