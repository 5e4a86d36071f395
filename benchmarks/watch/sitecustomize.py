"""Watches the process of a triggerer that runs triggers, and writes into WATCH_LOG what blocked its event loop.

Airflow warns of a blocked loop, but not what blocked it. Twenty times a second a thread notes for how long the process
had no core or collected garbage, and whether the loop's thread is in this provider's code or any that it called.
"""

import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

_EVERY = 0.05
_TASKS = Path("/proc/self/task")
_RUNNER = "triggerer_job_runner.py"
_PACKAGE = f"{os.sep}airflow_zilliz{os.sep}"


class _Garbage:
    """Sums up the pauses for garbage."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0
        gc.callbacks.append(self._note)

    def _note(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.seconds += time.perf_counter() - self._began


def _waited() -> dict[str, int]:
    """Return for how many nanoseconds each thread of this process has waited for a core."""
    found = {}
    for thread in _TASKS.iterdir():
        try:
            found[thread.name] = int((thread / "schedstat").read_text().split()[1])
        except (OSError, IndexError):
            continue  # it has just ended, or the system does not count
    return found


def _files() -> Iterator[str]:
    """Return the files whose code the main thread is in, which is the loop's."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        yield frame.f_code.co_filename
        frame = frame.f_back


def _watch() -> None:
    garbage, before = _Garbage(), _waited()
    collected = 0.0
    with Path(os.environ["WATCH_LOG"]).open("a", buffering=1) as log:
        while True:
            time.sleep(_EVERY)
            waited, files = _waited(), list(_files())
            # one thread without a core holds up the others only if it has the interpreter's lock: the longest counts
            no_core = max((count - before.get(name, 0) for name, count in waited.items()), default=0) / 1e9
            pause, collected = garbage.seconds - collected, garbage.seconds
            if any(file.endswith(_RUNNER) for file in files):  # and not the process that serves logs
                is_ours = any(_PACKAGE in file for file in files)
                log.write(f"{time.time():.3f} {no_core:.3f} {pause:.3f} {is_ours:d}\n")
            before = waited


def _begin() -> None:
    threading.Thread(target=_watch, name="watch", daemon=True).start()


if "WATCH_LOG" in os.environ and "triggerer" in sys.orig_argv:
    os.register_at_fork(after_in_child=_begin)
