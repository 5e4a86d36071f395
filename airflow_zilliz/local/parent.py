"""Ends the local server with the process that started it, however that one dies."""

from __future__ import annotations

import asyncio
import ctypes
import os
import platform
import signal
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_POLL_EVERY = 1.0


def end_with(parent: int, end: Callable[[], None]) -> None:
    """Call ``end`` on the running loop once the process ``parent`` has died.

    Linux sends a signal when the parent's *thread* that started this process ends, so the parent itself is checked
    then. Elsewhere it is polled.

    :param parent: process id of the parent
    """
    loop = asyncio.get_running_loop()

    def check() -> None:
        if os.getppid() != parent:
            end()

    if platform.system() == "Linux":
        loop.add_signal_handler(signal.SIGUSR1, check)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)
        check()  # it may have died before
        return

    def poll() -> None:
        check()
        loop.call_later(_POLL_EVERY, poll)

    poll()
