"""How the local server starts and ends: real processes, signals and sockets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from airflow_zilliz.local.jobs import Job, JobStore
from airflow_zilliz.local.testing import LocalServer

SERVER = [sys.executable, "-m", "airflow_zilliz.local"]


@contextmanager
def running(*words: str, cwd: Path, env: dict[str, str] | None = None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [*SERVER, *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=cwd, env=env) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def get(url: str) -> int:
    with requests.Session() as session:
        session.trust_env = False
        return session.post(f"{url}/v2/vectordb/jobs/import/list", json={}, timeout=10).status_code


def gone(pid: int) -> bool:
    """Return whether a process that is no child of this one has ended, within 10 seconds."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
            stat = Path(f"/proc/{pid}/stat")
            if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_without_an_option_it_imports_from_the_folder_data(tmp_path: Path) -> None:
    with running("--port", "0", cwd=tmp_path) as (_, url):
        assert get(url) == 200
        assert (tmp_path / "data").is_dir()


def test_the_engine_is_up_before_the_address_is_printed(tmp_path: Path) -> None:
    """R105: The first client of a busy machine waits 10 seconds at most, which is pymilvus's default."""
    import grpc
    from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc

    with running("--port", "0", cwd=tmp_path) as (_, url):
        assert (tmp_path / "data" / ".zilliz-local" / "milvus.db").exists()
        with grpc.insecure_channel(url.removeprefix("http://")) as channel:
            response = milvus_pb2_grpc.MilvusServiceStub(channel).GetVersion(milvus_pb2.GetVersionRequest(), timeout=10)
        assert "lite" in response.version


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(tmp_path: Path, number: signal.Signals) -> None:
    with running("--port", "0", cwd=tmp_path) as (process, url):
        assert url
        process.send_signal(number)
        assert process.wait(timeout=20) == 0


STARTER = """
import os, sys, threading, time
from pathlib import Path
from airflow_zilliz.local.jobs import Job, JobStore
from airflow_zilliz.local.testing import LocalServer

server = LocalServer(Path(sys.argv[1]))
thread = threading.Thread(target=server.start)  # Linux reports the death of a thread
thread.start()
thread.join()
print(server._process.pid, server.url, flush=True)
time.sleep(600)
"""


def test_it_ends_with_the_process_that_started_it_and_not_with_its_thread(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", STARTER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid, url = starter.stdout.readline().split()
        assert get(url) == 200, "the thread has ended, the process has not"
        starter.kill()
        starter.wait()
        assert gone(int(pid))
        with pytest.raises(requests.ConnectionError):
            get(url)


def test_a_parent_that_died_before_is_noticed(tmp_path: Path) -> None:
    with running("--port", "0", "--parent", "1", cwd=tmp_path) as (process, _):
        assert process.wait(timeout=20) == 0


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback address")
def test_an_ipv6_address_is_printed_with_brackets(tmp_path: Path) -> None:
    with running("--port", "0", "--host", "::1", cwd=tmp_path) as (_, url):
        assert url.startswith("http://[::1]:")
        assert get(url) == 200


def test_a_proxy_of_the_environment_does_not_come_between(tmp_path: Path) -> None:
    """gRPC and requests take a proxy from the environment; nothing listens at this one."""
    proxy = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "grpc_proxy"), "http://127.0.0.1:9")
    bare = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    test = """
from pymilvus import MilvusClient

def test(zilliz_server):
    import requests
    assert requests.post(zilliz_server.url + "/v2/vectordb/jobs/import/list", json={}, timeout=10).json()["code"] == 0
    assert MilvusClient(zilliz_server.url).list_collections() == []
"""
    (tmp_path / "test_it.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "test_it.py"]
    result = subprocess.run(
        command, cwd=tmp_path, env={**bare, **proxy}, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stdout


def test_the_older_names_of_the_flavor(tmp_path: Path) -> None:
    with LocalServer(tmp_path, face="cloud") as server:
        assert (server.face, server.flavor) == ("cloud", "cloud")
        assert server.add_job({"state": "Importing"}).startswith("job-")
    with running("--face", "cloud", "--port", "0", "--data-dir", str(tmp_path / "other"), cwd=tmp_path) as (_, url):
        response = requests.post(f"{url}/v2/vectordb/jobs/import/list", json={}, timeout=10)
        assert response.json()["code"] == 96025


def test_a_second_server_on_the_same_folder_leaves_the_jobs_of_the_first_alone(tmp_path: Path) -> None:
    def state() -> str:
        store = JobStore(path)
        job = store.get("1")
        store.close()
        assert job is not None
        return job.state

    path = tmp_path / "data" / ".zilliz-local" / "milvus.jobs.sqlite"
    with LocalServer(tmp_path / "data") as first:
        store = JobStore(path)
        store.add(Job("1", "books", state="Importing"))
        store.close()
        for port, starts in ((first.port, False), (0, True)):
            with running("--port", str(port), cwd=tmp_path) as (process, url):
                assert bool(url) == starts
                process.terminate()
                process.wait(timeout=20)
            assert state() == "Importing"
        first.restart()
        assert state() == "Failed"


def test_without_milvus_lite_scripted_jobs_run_all_the_same(tmp_path: Path) -> None:
    program = (
        "import sys\nsys.modules['milvus_lite'] = None\n"
        "from airflow_zilliz.local.__main__ import main\nsys.exit(main())\n"
    )
    command = [sys.executable, "-c", program, "--control", "--port", "0", "--data-dir", str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process, requests.Session() as session:
        session.trust_env = False
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        try:
            job = {"phases": [{"state": "Completed"}], "collectionName": "books"}
            job_id = session.post(f"{url}/_control/jobs", json=job, timeout=10).json()["jobId"]
            imports = f"{url}/v2/vectordb/jobs/import"
            described = session.post(f"{imports}/describe", json={"jobId": job_id}, timeout=10).json()
            assert described["data"]["state"] == "Completed"
            listed = session.post(f"{imports}/list", json={"collectionName": "books"}, timeout=10).json()
            assert [record["jobId"] for record in listed["data"]["records"]] == [job_id]
            refused = {"collectionName": "books", "files": [["a.json"]]}
            assert session.post(f"{imports}/create", json=refused, timeout=10).json()["code"] == 1
            assert session.post(f"{url}/v2/vectordb/databases/list", json={}, timeout=10).json()["code"] == 1
        finally:
            process.terminate()
        assert process.stderr is not None
        assert "Only scripted jobs can run: importing files needs Milvus Lite" in process.stderr.read()
