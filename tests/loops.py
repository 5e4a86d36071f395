"""An event loop that tells when it stands still."""

from __future__ import annotations

import asyncio
import os
import sys

#: What all triggers of a process share must not stand still for longer, in seconds.
LONGEST_BLOCK = 0.02


class DebugLoop(asyncio.SelectorEventLoop):
    """An event loop in debug mode, which logs every callback that blocks it."""

    def __init__(self) -> None:
        super().__init__()
        self.set_debug(True)
        self.slow_callback_duration = LONGEST_BLOCK
        self._schedstat = os.open("/proc/thread-self/schedstat", os.O_RDONLY) if sys.platform == "linux" else None

    def time(self) -> float:
        """Return a clock that stands still while this thread could run but has no core, as in a crowded test run."""
        waited = int(os.pread(self._schedstat, 100, 0).split()[1]) if self._schedstat is not None else 0
        return super().time() - waited / 1e9

    def close(self) -> None:
        super().close()
        if self._schedstat is not None:
            os.close(self._schedstat)
            self._schedstat = None
