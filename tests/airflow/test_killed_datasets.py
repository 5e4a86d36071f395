"""The import of a dataset whose worker is killed again and again.

``DATASET_FILES=5000 DATASET_FILES_PER_JOB=100`` makes it a larger one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

from airflow_zilliz._tasks import dataset_run
from airflow_zilliz.local.testing import LocalServer
from airflow_zilliz.operators import ZillizImportDatasetOperator
from tests.airflow.submitting import QUICK, TaskInstance, context_of
from tests.helpers.book_files import ids_in, make_collection, write_books

FILES = int(os.environ.get("DATASET_FILES", "120"))
FILES_PER_JOB = int(os.environ.get("DATASET_FILES_PER_JOB", "10"))
ROWS = 2
KILLS = 5
#: A job that is not served for a moment is waited for.
LIMIT = 600.0


def try_once(data: str, store: str, number: str) -> None:
    """Run a try to its end, in this process."""
    mock.patch.object(dataset_run, "PATIENCE", QUICK).start()
    operator = ZillizImportDatasetOperator(
        task_id="import",
        collection_name="books",
        source=f"file://{data}/books/*.json",
        to_path=lambda url: url.removeprefix(f"file://{data}/"),
        max_files_per_job=FILES_PER_JOB,
        max_active_jobs=4,
        poke_interval=0.5,
        timeout=LIMIT,
        deferrable=False,
    )
    print(json.dumps(operator.execute(context_of(TaskInstance(int(number)), Path(store)))))


@pytest.mark.full
def test_each_row_is_in_once_however_often_the_worker_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("milvus_lite", reason="the local server needs Milvus Lite for real imports")
    data, store = tmp_path / "data", tmp_path / "store.json"
    write_books(data / "books", FILES, ROWS)
    jobs = -(-FILES // FILES_PER_JOB)
    with LocalServer(data) as server:
        make_collection(server)
        monkeypatch.setenv("AIRFLOW_CONN_ZILLIZ_DEFAULT", server.connection(max_requests_per_second=1000))
        for number in range(1, KILLS + 1):
            kill_after(server, number * jobs // (KILLS + 1), start(data, store, number))
            assert not ids_in(server) or len(ids_in(server)) < FILES * ROWS, "killed before the end"
        last = start(data, store, KILLS + 1)
        output, _ = last.communicate(timeout=LIMIT)
        assert last.returncode == 0
        result = json.loads(output.splitlines()[-1])
        assert (result["jobs"], result["files"], result["imported_rows"]) == (jobs, FILES, FILES * ROWS)
        assert ids_in(server) == list(range(FILES * ROWS))
        assert len(server.requests("create")) == jobs, "none was sent twice"


def start(data: Path, store: Path, number: int) -> subprocess.Popen[str]:
    call = f"import sys; from {__name__} import try_once; try_once(*sys.argv[1:])"
    command = [sys.executable, "-c", call, str(data), str(store), str(number)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill_after(server: LocalServer, creates: int, process: subprocess.Popen[str]) -> None:
    """Kill a try as soon as so many jobs were sent, by all tries together."""
    until = time.monotonic() + LIMIT
    while len(server.requests("create")) < creates:
        assert time.monotonic() < until
        assert process.poll() is None, "it ends before it is killed"
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=30)
