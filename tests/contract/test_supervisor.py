"""What `make demo` and `make ui` start ends with them: real processes, of which one is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dev import supervisor

#: A command with a child in a session of its own, one that ignores SIGTERM, and one whose own parent has ended.
FAMILY = """
import subprocess, sys, time
from pathlib import Path

sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
start = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL).pid)"
child = subprocess.Popen(sleep, start_new_session=True)
deaf = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
deaf.stdout.readline()
orphan = int(subprocess.run([sys.executable, "-c", start, *sleep], stdout=subprocess.PIPE, check=True).stdout)
path = Path(sys.argv[1])
path.with_suffix(".new").write_text(f"{child.pid} {deaf.pid} {orphan}")
path.with_suffix(".new").rename(path)
if sys.argv[2:]:
    while not path.with_suffix(".read").exists():
        time.sleep(0.05)
    sys.exit(int(sys.argv[2]))
time.sleep(600)
"""
#: The command line of the supervisor, except for its patience.
SUPERVISOR = "import sys; from dev import supervisor; supervisor._GRACE = 0.5; sys.exit(supervisor.main(sys.argv[1:]))"
STARTER = """
import subprocess, sys, time
process = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)
time.sleep(600)
"""


def words(pids: Path, *more: str) -> list[str]:
    return [sys.executable, "-c", SUPERVISOR, sys.executable, "-c", FAMILY, str(pids), *more]


def family(pids: Path) -> list[psutil.Process]:
    until = time.monotonic() + 60
    while not pids.exists():
        assert time.monotonic() < until, "the family does not start"
        time.sleep(0.05)
    found = [psutil.Process(int(pid)) for pid in pids.read_text().split()]
    pids.with_suffix(".read").touch()
    return found


def left(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return which processes go on, after giving them 20 seconds to end."""
    until = time.monotonic() + 20
    while (alive := [process for process in processes if goes_on(process)]) and time.monotonic() < until:
        time.sleep(0.05)
    return alive


def goes_on(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)  # a container's first process may never collect it
    except psutil.NoSuchProcess:
        return False


def kill_all(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_all_descendants_end_with_the_starter(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", STARTER, *words(tmp_path / "pids")]) as starter:
        processes = family(tmp_path / "pids")
        processes += psutil.Process(starter.pid).children(recursive=True)
        try:
            starter.send_signal(number)
            starter.wait(timeout=20)
            assert left(processes) == []
        finally:
            kill_all(processes)


def test_a_command_that_ends_gives_its_status_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with subprocess.Popen(words(tmp_path / "pids", "3"), stdin=subprocess.PIPE) as process:
        processes = family(tmp_path / "pids")
        try:
            assert process.wait(timeout=20) == 3
            assert left(processes) == []
        finally:
            kill_all(processes)


def test_a_command_that_is_killed_gives_the_status_of_a_shell() -> None:
    killed = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    with subprocess.Popen([sys.executable, supervisor.__file__, *killed], stdin=subprocess.PIPE) as process:
        assert process.wait(timeout=20) == 128 + signal.SIGKILL


CHILD = """
import signal, sys
from dev.supervisor import end_with_parent

signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
end_with_parent()
print("ready", flush=True)
try:
    signal.pause()
finally:
    print("cleaned up", flush=True)
"""


def test_a_child_of_make_ends_as_by_sigterm_when_make_is_killed() -> None:
    reading, writing = os.pipe()
    with (
        subprocess.Popen([sys.executable, "-c", STARTER, sys.executable, "-c", CHILD], stdout=writing) as starter,
        os.fdopen(reading) as output,
    ):
        os.close(writing)
        assert output.readline() == "ready\n"
        starter.kill()
        assert output.read() == "cleaned up\n"
