"""An event loop that reports when it is blocked."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from pathlib import Path

#: What all triggers of a process share must not stand still for longer, in seconds.
LONGEST_BLOCK = 0.02
_TASKS = Path("/proc/self/task")


class _Waits:
    """Sums up what is no doing of ours: waits of this process's threads for a core, and garbage collections."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._total = 0
        self._collecting = 0.0
        self._began = 0.0
        self.seconds()
        self._total = 0  # what the process waited for before is not this loop's
        gc.callbacks.append(self._collect)

    def close(self) -> None:
        with contextlib.suppress(ValueError):
            gc.callbacks.remove(self._collect)

    def _collect(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.monotonic()
        elif self._began:
            self._collecting += time.monotonic() - self._began
            self._began = 0.0

    def seconds(self) -> float:
        for thread in _TASKS.iterdir() if _TASKS.is_dir() else ():
            try:
                waited = int((thread / "schedstat").read_text().split()[1])
            except (OSError, IndexError):
                continue  # it has just ended, or the system does not count
            self._total += max(0, waited - self._last.get(thread.name, 0))
            self._last[thread.name] = waited
        return self._total / 1e9 + self._collecting


class DebugLoop(asyncio.SelectorEventLoop):
    """An event loop in debug mode, which logs every callback that blocks it."""

    def __init__(self) -> None:
        self._waits = _Waits()
        self._latest = 0.0
        super().__init__()
        self.set_debug(True)
        self.slow_callback_duration = LONGEST_BLOCK

    def time(self) -> float:
        """Return a clock that stands still while this process collects garbage, or has no core on a crowded machine.

        All of its threads count, for one that holds the interpreter's lock and gets no core holds up the others. It
        begins as the system's clock: a request on a worker and one on the loop share a pace, each by its own clock.
        It never goes back, although threads that wait at the same time wait for longer than there was.
        """
        self._latest = max(self._latest, super().time() - self._waits.seconds())
        return self._latest

    def close(self) -> None:
        super().close()
        self._waits.close()
