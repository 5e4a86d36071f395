"""Whether a server responds, and for how long requests pause when it does not. No I/O, no clock."""

from __future__ import annotations

import math

from airflow_zilliz.exceptions import ZillizUnavailable

#: The longest pause for a server that does not respond and did not say for how long, in seconds.
LONGEST_PAUSE = 30.0


class Health:
    """What is known of one target's server; all waits on it pause together."""

    def __init__(self) -> None:
        #: when it last sent a usable response to anyone
        self.responded_at = -math.inf
        self._failures = 0
        self._failed_at = -math.inf
        self._paused_until = -math.inf
        self._error: ZillizUnavailable | None = None

    @property
    def is_failing(self) -> bool:
        """Whether its last response was not usable."""
        return self._failures > 0

    def paused_for(self, now: float) -> float:
        """Return for how many seconds nothing may be sent."""
        return max(0.0, self._paused_until - now)

    def paused_by(self, now: float) -> ZillizUnavailable | None:
        """Return the error that caused the pause, with the seconds left; None without a pause."""
        if self._error is None or now >= self._paused_until:
            return None
        return self._error.with_retry_after(self._paused_until - now)

    def on_response(self, now: float) -> None:
        """Handle a usable response, which ends every pause that the server did not ask for."""
        self.responded_at = now
        self._failures = 0
        if self._error is not None and not self._error.is_throttling:
            self._paused_until = -math.inf

    def on_failure(self, error: ZillizUnavailable, sent_at: float, now: float) -> None:
        """Pause for as long as the server asked for, or for longer after each failure.

        :param sent_at: when the failed request was sent
        """
        if sent_at >= self._failed_at:  # requests in flight together fail together, and count once
            self._failures += 1
            self._failed_at = now
        turn = self._failures if error.is_throttling else self._failures - 1
        pause = error.retry_after
        if pause is None:
            pause = min(LONGEST_PAUSE, 2.0 ** min(turn - 1, 10)) if turn > 0 else 0.0
        if pause and now + pause >= self._paused_until:
            self._paused_until = now + pause
            self._error = error
