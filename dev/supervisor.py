"""Runs a command, and ends it with all its descendants once this process's starter has ended, even by SIGKILL.

The starter runs ``python dev/supervisor.py COMMAND...`` with a pipe as stdin and never writes to it: the system closes
the pipe when the starter ends. A parent-death signal would reach only the command, and none of its children.
"""

from __future__ import annotations

import ctypes
import os
import platform
import select
import signal
import subprocess
import sys
import threading
import time

import psutil  # a dependency of Airflow

_PR_SET_CHILD_SUBREAPER = 36
_POLL_EVERY = 0.2
#: Seconds for processes to end by themselves after SIGTERM.
_GRACE = 10.0


def main(command: list[str]) -> int:
    """Run the command; return its exit status, or 143 if it was ended from here."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(143))
    _adopt_orphans()
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        while not _starter_has_ended():
            if (status := _reap(child.pid)) is not None:
                return status
    finally:
        end_descendants()
    return 143


def end_with_parent() -> None:
    """Send SIGTERM to the main thread of this process once its parent, such as ``make``, has ended."""
    parent, main_thread = os.getppid(), threading.main_thread().ident
    assert main_thread is not None  # noqa: S101 - it runs

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_EVERY)
        signal.pthread_kill(main_thread, signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _adopt_orphans() -> None:
    """Become the parent of descendants whose own parent has ended, so that none gets lost."""
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _starter_has_ended() -> bool:
    """Wait a moment for the end of stdin, and return whether it has come."""
    readable, _, _ = select.select([sys.stdin], [], [], _POLL_EVERY)
    return bool(readable) and os.read(sys.stdin.fileno(), 1) == b""


def _reap(pid: int) -> int | None:
    """Collect children that have ended; return the exit status of the process ``pid`` if it is among them."""
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if ended == 0:
            return None
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def end_descendants() -> None:
    """End all descendants of this process by SIGTERM, and those that remain after ten seconds by SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # it is ending already
    here = psutil.Process()
    until = time.monotonic() + _GRACE
    asked: set[psutil.Process] = set()
    while descendants := {process for process in here.children(recursive=True) if _is_alive(process)}:
        is_late = time.monotonic() > until
        for process in descendants if is_late else descendants - asked:
            _send(process, signal.SIGKILL if is_late else signal.SIGTERM)
        asked |= descendants
        _reap(0)
        time.sleep(0.05)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
