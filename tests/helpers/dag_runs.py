"""Runs DAGs by `dag_runner.py`, with a metadata database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.helpers import dag_runner

HOME = Path(os.environ["AIRFLOW_HOME"])


class DagRunner:
    """A process from which DAG runs are forked, and Airflow's database."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        self.database = HOME / "airflow.db"
        self._process = subprocess.Popen(
            [sys.executable, dag_runner.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, path: Path, dag_id: str, conf: dict[str, Any], environment: dict[str, str]) -> str:
        """Run a DAG of a file to its end; return what its process printed."""
        output = HOME / f"{dag_id}.out"
        run = {"path": str(path), "dag_id": dag_id, "conf": conf, "day": "2026-02-01T00:00:00+00:00"}
        order = {"run": run, "environment": environment, "output": str(output)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        status = self._process.stdout.readline().strip()
        printed = output.read_text(errors="replace")
        output.unlink()  # it is searched for secrets as what was printed, not as what is left
        assert (status, dag_runner.ENDED in printed) == ("0", True), printed[-6000:]
        return printed

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=60)
