"""The local import server: real files into a real Milvus Lite, through the REST API."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from airflow_zilliz.local.testing import LocalServer
from tests.contract.conftest import DIM, client_of, make_collection, rows, rows_in, write_json
from tests.helpers.servers import ServerPool


@pytest.fixture(scope="module")
def process(server_pool: ServerPool) -> LocalServer:
    return server_pool.take()


@pytest.fixture
def server(process: LocalServer) -> LocalServer:
    process.clear()
    make_collection(process, "books")
    return process


def call(server: LocalServer, verb: str, headers: dict[str, str] | None = None, **body: Any) -> dict[str, Any]:
    url = f"{server.url}/v2/vectordb/jobs/import/{verb}"
    answer: dict[str, Any] = requests.post(url, json=body, headers=headers, timeout=30).json()
    return answer


def create(server: LocalServer, *files: str, headers: dict[str, str] | None = None, **body: Any) -> str:
    answer = call(server, "create", headers, **{"collectionName": "books", "files": [[name] for name in files], **body})
    assert answer["code"] == 0, answer
    return str(answer["data"]["jobId"])


def ended(server: LocalServer, job_id: str) -> dict[str, Any]:
    return server.wait_for_job(job_id, "Completed", "Failed")


def import_reason(server: LocalServer, *files: str, **body: Any) -> str:
    """Import files that must fail, see that not a row of them is loaded, and return the job's reason."""
    job = ended(server, create(server, *files, **body))
    assert (job["state"], job["progress"], job["importedRows"], job["totalRows"]) == ("Failed", 0, 0, 0)
    assert rows_in(server, "books") == 0
    return str(job["reason"])


# -- every kind of file -------------------------------------------------------------------------------------------

FULL: list[dict[str, Any]] = [
    {"id": 1, "title": "a, b", "price": 1.5, "sold": True, "extra": {"k": [1]}, "vector": [0.5, 1, 2, 3]},
    {"id": 2, "title": None, "price": None, "sold": None, "extra": None, "vector": [1.0, 0, 0, 0]},
]


def write_files(folder: Path) -> dict[str, list[str]]:
    write_json(folder, "rows.json", FULL)
    write_json(folder, "object.json", {"rows": FULL})
    (folder / "lines.jsonl").write_text("\n".join(map(json.dumps, FULL)) + "\n\n")
    texts = [{**row, "extra": json.dumps(row["extra"]) if row["extra"] else None} for row in FULL]
    pq.write_table(pa.Table.from_pylist(texts), folder / "rows.parquet")
    (folder / "rows.csv").write_text(
        'id,title,price,sold,extra,vector\n1,"a, b",1.5,true,"{""k"": [1]}","[0.5, 1, 2, 3]"\n2,,,,,"[1.0, 0, 0, 0]"\n'
    )
    (folder / "semicolon.csv").write_text('id;title;vector\n1;NIL;[0.5, 1, 2, 3]\n2;x;"[1.0, 0, 0, 0]"\n')
    set_folder = folder / "numpy"
    set_folder.mkdir(exist_ok=True)
    np.save(set_folder / "id.npy", np.array([1, 2]))
    np.save(set_folder / "vector.npy", np.array([[0.5, 1, 2, 3], [1, 0, 0, 0]], dtype=np.float32))
    return {
        "json": ["rows.json"],
        "object": ["object.json"],
        "lines": ["lines.jsonl"],
        "parquet": ["rows.parquet"],
        "csv": ["rows.csv"],
        "numpy": ["numpy/id.npy", "numpy/vector.npy"],
    }


@pytest.mark.parametrize("kind", ["json", "object", "lines", "parquet", "csv", "numpy"])
def test_kinds_of_file(server: LocalServer, kind: str) -> None:
    group = write_files(server.data_dir)[kind]
    job = ended(server, create(server, files=[group]))
    assert job["state"] == "Completed", job
    assert (job["importedRows"], job["totalRows"], job["progress"]) == (2, 2, 100)
    client = client_of(server)
    client.load_collection("books")
    found = {row["id"]: row for row in client.query("books", filter="id > 0", output_fields=["*"])}
    assert list(found[1]["vector"]) == [0.5, 1, 2, 3]
    if kind != "numpy":
        assert {key: found[1][key] for key in ("title", "price", "sold", "extra")} == {
            key: FULL[0][key] for key in ("title", "price", "sold", "extra")
        }
        assert found[2]["title"] is None


def test_csv_options(server: LocalServer) -> None:
    write_files(server.data_dir)
    job = ended(server, create(server, "semicolon.csv", options={"sep": ";", "nullkey": "NIL"}))
    assert job["state"] == "Completed", job
    titles = [row["title"] for row in client_of(server).query("books", filter="id == 1", output_fields=["title"])]
    assert titles == [None]


def test_several_files_with_progress_and_true_counts(server: LocalServer) -> None:
    for number in range(3):
        write_json(server.data_dir, f"part{number}.json", rows(700, first=1000 * number))
    job = ended(server, create(server, "part0.json", "part1.json", "part2.json"))
    assert (job["state"], job["importedRows"], rows_in(server, "books")) == ("Completed", 2100, 2100)
    assert [(d["importedRows"], d["totalRows"], d["state"]) for d in job["details"]] == [(700, 700, "Completed")] * 3
    assert job["fileSize"] == sum((server.data_dir / f"part{n}.json").stat().st_size for n in range(3))
    assert job["completeTime"].endswith("Z")


def test_a_dynamic_field_takes_what_the_schema_lacks(server: LocalServer) -> None:
    make_collection(server, "loose", dynamic=True)
    write_json(server.data_dir, "dynamic.json", [{**rows(1)[0], "shelf": "A3"}])
    assert ended(server, create(server, "dynamic.json", collectionName="loose"))["state"] == "Completed"
    found = client_of(server).query("loose", filter="id == 0", output_fields=["shelf"])
    assert found[0]["shelf"] == "A3"


# -- true errors --------------------------------------------------------------------------------------------------

ROW = {"id": 1, "vector": [0.1] * DIM}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([ROW, {**ROW, "vector": [0.1] * 3}], "bad.json row 2: field 'vector' has 3 dimensions, its schema says 4"),
        ([{"id": 1}], "value of field 'vector' is missing"),
        ([{**ROW, "id": "one"}], "field 'id' must be an INT64, got 'one'"),
        ([{**ROW, "id": 1.5}], "field 'id' must be an INT64, got 1.5"),
        ([{**ROW, "id": 2**63}], "field 'id' must be an INT64"),
        ([{**ROW, "title": "x" * 21}], "field 'title' has 21 bytes, its max_length is 20"),
        ([{**ROW, "title": 5}], "field 'title' must be text"),
        ([{**ROW, "sold": "maybe"}], "field 'sold' must be true or false, got 'maybe'"),
        ([{**ROW, "price": True}], "field 'price' must be a number, got True"),
        ([{**ROW, "vector": "none"}], "field 'vector' must be a vector, got 'none'"),
        ([{**ROW, "vector": ["a"] * DIM}], "field 'vector' must be a number, got 'a'"),
        ([3], "row 1 is not a JSON object"),
        ({"data": []}, "must be a JSON list of rows"),
    ],
)
def test_bad_rows(server: LocalServer, content: object, words: str) -> None:
    write_json(server.data_dir, "bad.json", content)
    assert words in import_reason(server, "bad.json")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("cut.json", b'[{"id": 1,', "cut.json row 1 is not valid JSON"),
        ("cut.jsonl", b'{"id": 1, "vector": [1, 2, 3, 4]}\n{"id"', "cut.jsonl row 2 is not valid JSON"),
        ("no.parquet", b"PAR1 not really", "not a readable Parquet file"),
        ("id.npy", b"not really", "id.npy: value of field 'vector' is missing"),
        ("empty.csv", b"", "has no header line"),
        ("short.csv", b"id,vector\n1\n", "line 2 has 1 values, the header names 2"),
    ],
)
def test_bad_files(server: LocalServer, name: str, content: bytes, words: str) -> None:
    (server.data_dir / name).write_bytes(content)
    assert words in import_reason(server, name)


def test_a_missing_file(server: LocalServer) -> None:
    assert import_reason(server, "nowhere.json") == "file not found: nowhere.json, below the server's --data-dir"
    assert import_reason(server, f"{'x' * 5000}.json") == f"path {'x' * 100!r} cannot be read: File name too long"


def test_a_bad_file_loads_nothing_of_the_good_ones(server: LocalServer) -> None:
    write_json(server.data_dir, "good.json", rows(10))
    write_json(server.data_dir, "bad.json", [{**ROW, "vector": []}])
    assert "bad.json row 1" in import_reason(server, "good.json", "bad.json")


@pytest.mark.parametrize("path", ["../secret.json", "/../secret.json", "a/../../secret.json", "link.json"])
def test_a_path_outside_the_data_folder_is_refused(server: LocalServer, path: str) -> None:
    outside = server.data_dir.parent / "secret.json"
    outside.write_text(json.dumps(rows(1)))
    link = server.data_dir / "link.json"
    if not link.is_symlink():
        link.symlink_to(outside)
    reason = import_reason(server, path)
    assert "refused" in reason
    assert "secret.json" not in reason.replace(path, "")


def test_an_unknown_route(server: LocalServer) -> None:
    answer = requests.post(f"{server.url}/v2/vectordb/jobs/import/getProgress", json={}, timeout=10)
    assert (answer.status_code, answer.text) == (404, "404 page not found")


# -- retries, two phases, restarts --------------------------------------------------------------------------------


def test_an_idempotency_key_gives_the_first_job_back(server: LocalServer) -> None:
    write_json(server.data_dir, "good.json", rows(10))
    key = {"Idempotency-Key": "dag/run/task/-1"}
    first = create(server, "good.json", headers=key)
    assert create(server, "other.json", headers=key) == first
    assert create(server, "good.json", headers={"Idempotency-Key": "another"}) != first
    make_collection(server, "films")
    assert create(server, "good.json", headers=key, collectionName="films") != first
    assert call(server, "create", {"Idempotency-Key": "x" * 257}, collectionName="books", files=[["a"]])["code"] == 1100
    server.set(idempotency=False)
    assert create(server, "good.json", headers=key) != first


def test_two_phases(server: LocalServer) -> None:
    write_json(server.data_dir, "good.json", rows(10))
    job_id = create(server, "good.json", options={"auto_commit": "false"})
    job = server.wait_for_job(job_id, "Uncommitted", "Failed")
    assert (job["progress"], job["importedRows"], job["totalRows"], rows_in(server, "books")) == (99, 10, 10, 0)
    (server.data_dir / "good.json").unlink()
    assert call(server, "commit", jobId=job_id) == {"code": 0, "data": {}}
    assert ended(server, job_id)["state"] == "Completed"
    assert rows_in(server, "books") == 10
    assert call(server, "commit", jobId=job_id)["code"] == 0, "a repeat does no harm"
    assert "abort not allowed" in call(server, "abort", jobId=job_id)["message"]


def test_an_aborted_import_leaves_nothing(server: LocalServer) -> None:
    write_json(server.data_dir, "good.json", rows(10))
    job_id = create(server, "good.json", options={"auto_commit": "false"})
    server.wait_for_job(job_id, "Uncommitted")
    for _ in range(2):
        assert call(server, "abort", jobId=job_id)["code"] == 0
    job = ended(server, job_id)
    assert (job["state"], "abort" in job["reason"], rows_in(server, "books")) == ("Failed", True, 0)
    assert call(server, "commit", jobId=job_id)["code"] == 2100


def test_an_ordinary_job_can_be_neither_committed_nor_aborted(server: LocalServer) -> None:
    server.set(milvus="2.6")
    write_json(server.data_dir, "good.json", rows(1))
    job_id = create(server, "good.json")
    for verb in ("commit", "abort"):
        assert call(server, verb, jobId=job_id)["code"] == 2100


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_jobs_survive_a_restart(tmp_path: Path, how: str) -> None:
    server = LocalServer(tmp_path / "data", options=("--tick", "0"))
    with server:
        make_collection(server, "books")
        write_json(server.data_dir, "good.json", rows(10))
        done = create(server, "good.json")
        ended(server, done)
        uncommitted = create(server, "good.json", options={"auto_commit": "false"})
        server.wait_for_job(uncommitted, "Uncommitted")
    slow = LocalServer(tmp_path / "data", options=("--tick", "1.5"))
    with slow:
        running, waiting = create(slow, "good.json"), [create(slow, "good.json") for _ in range(6)][-1]
        slow.wait_for_job(running, "Importing")
        getattr(slow, how)()
    with server:
        assert ended(server, done)["importedRows"] == 10
        assert "stopped while the job was running" in ended(server, running)["reason"]
        assert ended(server, waiting)["state"] == "Completed", "a job that had not begun is run"
        assert call(server, "describe", jobId=uncommitted)["data"]["state"] == "Uncommitted"
        call(server, "commit", jobId=uncommitted)
        assert ended(server, uncommitted)["state"] == "Completed"


# -- the command line and the control route -----------------------------------------------------------------------


def test_the_control_route_is_off_by_default(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "airflow_zilliz.local", "--port", "0", "--data-dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert requests.get(f"{url}/_control/requests", timeout=10).status_code == 404
        assert requests.post(f"{url}/_control/jobs", json={}, timeout=10).status_code == 404
        process.terminate()
        assert process.wait(timeout=20) == 0


def test_a_port_in_use_is_reported_in_a_line(server: LocalServer, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "airflow_zilliz.local", "--port", str(server.port), "--data-dir", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith(f"Cannot serve on 127.0.0.1:{server.port}: ")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("jobs", {}),
        ("jobs", {"phases": [{"state": "Pending", "hours": 1}]}),
        ("jobs", {"phases": [{"state": "Pending"}], "color": "red"}),
        ("faults", {"kind": "odd"}),
        ("settings", {"color": "red"}),
    ],
)
def test_the_control_route_says_what_it_cannot_use(server: LocalServer, what: str, value: object) -> None:
    response = requests.post(f"{server.url}/_control/{what}", json=value, timeout=10)
    assert response.status_code == 400


def test_a_scripted_job_follows_its_phases(server: LocalServer) -> None:
    pending = {"state": "Pending", "seconds": 0.3}
    importing = {"state": "Importing", "seconds": 0.3, "progress": 70}
    job_id = server.add_job(pending, importing, {"state": "Completed"}, totalRows=60)
    seen: list[tuple[Any, ...]] = []
    until = time.monotonic() + 10
    while (not seen or seen[-1][0] != "Completed") and time.monotonic() < until:
        data = call(server, "describe", jobId=job_id)["data"]
        state = (data["state"], data["progress"], data["importedRows"])
        seen += [state] if not seen or seen[-1] != state else []
        time.sleep(0.02)
    assert seen == [("Pending", 0, 0), ("Importing", 70, 30), ("Completed", 100, 60)]


def test_a_rate_limit_is_for_each_path(server: LocalServer) -> None:
    server.set(requests_per_second=5)
    url = f"{server.url}/v2/vectordb/jobs/import/"
    answers = [requests.post(f"{url}list", json={}, timeout=10) for _ in range(8)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 3
    assert refused[0].headers["Retry-After"] == "1"
    assert requests.post(f"{url}describe", json={}, timeout=10).status_code == 200


def test_users_keys_are_not_kept(server: LocalServer) -> None:
    server.script({"state": "Completed"})
    create(server, "a.json", headers={"Authorization": "Bearer k3y-0123456789"}, accessKey="ak-1", secretKey="sk-1")
    assert not any(secret in json.dumps(server.requests()) for secret in ("k3y-", "ak-1", "sk-1"))
