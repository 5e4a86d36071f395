"""`make ui`, from its first line to Ctrl-C or SIGKILL."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from packaging.version import Version

pytest.importorskip("airflow.sdk")
psutil = pytest.importorskip("psutil")

from airflow import __version__ as airflow_version  # noqa: E402 - Airflow 2 is skipped above

pytestmark = [
    pytest.mark.skipif(Version(airflow_version) < Version("3.3"), reason="make ui shows the newest Airflow"),
    pytest.mark.xdist_group("browser"),
]
ROOT = Path(__file__).parents[2]


@contextmanager
def make_ui(home: Path) -> Iterator[subprocess.Popen[str]]:
    """Run `make ui` until it says how to end it, in a process group of its own as in a shell."""
    stamp = f"{sys.prefix}/.demo-ready"  # this very environment is to be used as it is
    command = ["make", "--old-file", stamp, "ui", f"NEW={sys.prefix}", f"ARGS=--home {home}"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=_heed_ctrl_c
    ) as process:
        assert process.stdout is not None
        said = ""
        while "Ctrl-C" not in said and (line := process.stdout.readline()):
            said += line
        address = re.search(r"Airflow [\d.]+: (http://127\.0\.0\.1:\d+)", said)
        assert address is not None, said
        assert requests.get(address[1], timeout=30).status_code == 200
        yield process


def test_airflow_is_shown_until_ctrl_c_and_then_all_of_it_is_gone(tmp_path: Path) -> None:
    with make_ui(tmp_path / "home") as process:
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout is not None
        assert "nothing is left running" in process.stdout.read()
    assert _running(tmp_path / "home") == []


@pytest.mark.parametrize("victim", ["make", "its python"])
def test_nothing_is_left_when_it_is_killed(tmp_path: Path, victim: str) -> None:
    home = tmp_path / "home"
    with make_ui(home) as process:
        (python,) = psutil.Process(process.pid).children()
        assert len(_running(home)) > 5, "Airflow's parts, their children and the import server run"
        os.kill(process.pid if victim == "make" else python.pid, signal.SIGKILL)
        until = time.monotonic() + 60
        while (left := _running(home)) and time.monotonic() < until:
            time.sleep(0.5)
        assert left == []


def _heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it, and so would all they start


def _running(home: Path) -> list[list[str]]:
    """Return the command lines of Airflow's processes, the import server and what started them."""
    left = []
    for process in psutil.process_iter(["cmdline", "status"]):
        try:
            words = process.info["cmdline"] or []
            is_ours = str(home) in process.environ().get("AIRFLOW_HOME", "") or any(str(home) in word for word in words)
        except psutil.Error:
            continue
        if is_ours and process.info["status"] != psutil.STATUS_ZOMBIE:
            left.append(words)
    return left
