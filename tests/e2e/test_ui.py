"""`make ui`, from its first line to Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
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
EXAMPLES = Path(__file__).parents[2] / "example_dags"


def test_airflow_is_shown_until_ctrl_c_and_then_all_of_it_is_gone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    command = [sys.executable, "-m", "dev.ui", "--dags", str(EXAMPLES), "--home", str(home)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=_heed_ctrl_c
    ) as process:
        assert process.stdout is not None
        said = ""
        while "Ctrl-C" not in said and (line := process.stdout.readline()):
            said += line
        address = re.search(r"Airflow [\d.]+: (http://127\.0\.0\.1:\d+)", said)
        assert address is not None, said
        assert requests.get(address[1], timeout=30).status_code == 200
        os.killpg(process.pid, signal.SIGINT)
        assert "nothing is left running" in process.stdout.read()
    assert process.returncode == 0
    assert _running(home) == []


def _heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it, and so would all they start


def _running(home: Path) -> list[list[str]]:
    left = []
    for process in psutil.process_iter(["cmdline"]):
        try:
            if str(home) in process.environ().get("AIRFLOW_HOME", ""):
                left.append(process.info["cmdline"])
        except psutil.Error:
            continue
    return left
