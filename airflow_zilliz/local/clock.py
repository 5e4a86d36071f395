"""The local server's clock, which tests can move forward."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Clock:
    """The time of the machine, plus what tests have added to it.

    :param source: returns the machine's time, in epoch seconds
    """

    def __init__(self, source: Callable[[], float] = time.time) -> None:
        self._source = source
        self._offset = 0.0
        self._sleepers: set[asyncio.Event] = set()

    def now(self) -> float:
        """Return the time, in epoch seconds."""
        return self._source() + self._offset

    def advance(self, seconds: float) -> None:
        """Move the time forward, and wake sleepers; call it on the event loop.

        :param seconds: not negative
        :raises ValueError: the number is negative or not finite
        """
        if not 0 <= seconds < float("inf"):
            raise ValueError(f"the clock moves forward by a number of seconds, got {seconds!r}")
        self._offset += seconds
        self._wake()

    def reset(self) -> None:
        """Return to the time of the machine."""
        self._offset = 0.0
        self._wake()

    async def sleep(self, seconds: float) -> None:
        """Sleep until this clock, moved or not, has advanced by so many seconds."""
        until = self.now() + seconds
        moved = asyncio.Event()
        self._sleepers.add(moved)
        try:
            while (left := until - self.now()) > 0:
                moved.clear()
                # wait_for would cost a task for each sleeper
                timer = asyncio.get_running_loop().call_later(left, moved.set)
                await moved.wait()
                timer.cancel()
        finally:
            self._sleepers.discard(moved)

    def _wake(self) -> None:
        for moved in self._sleepers:
            moved.set()
