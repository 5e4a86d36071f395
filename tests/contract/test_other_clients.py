"""Zilliz's own other clients against the local server: the Node SDK, and the command line `zilliz`.

Neither is a dependency. ``ZILLIZ_INSTALL_CLIENTS=1`` installs both from their registries into a temporary folder, as a
full run does; ``ZILLIZ_CLI`` names a program, and ``ZILLIZ_NODE_SDK`` a folder with ``node_modules``, that are there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_zilliz.local.testing import LocalServer
from tests.contract.conftest import CLUSTER, KEYS, make_collection, rows, write_json

CLI, NODE_SDK = "zilliz-cli==1.0.2", "@zilliz/milvus2-sdk-node@3.0.6"
INSTALL = os.environ.get("ZILLIZ_INSTALL_CLIENTS") == "1"
NODE_SCRIPT = Path(__file__).parent / "clients" / "node_sdk.js"
UNKNOWN = "453468002260053160"
BROKEN = [{"id": 1, "vector": [0.5]}]

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("other_clients")]


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "NO_PROXY": "127.0.0.1", **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=240, check=False)


def installed(command: list[str]) -> None:
    result = run(command)
    assert result.returncode == 0, result.stderr[-2000:]


# -- zilliz-cli ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zilliz_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python that has zilliz-cli: it needs a click and a rich of its own."""
    if given := os.environ.get("ZILLIZ_CLI"):
        return Path(given).parent / "python"
    if not INSTALL:
        pytest.skip(f"{CLI} is not installed: set ZILLIZ_INSTALL_CLIENTS=1, or ZILLIZ_CLI to its path")
    folder = tmp_path_factory.mktemp("zilliz-cli")
    installed([sys.executable, "-m", "venv", str(folder)])
    python = folder / "bin" / "python"
    installed([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", CLI])
    return python


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with LocalServer(tmp_path_factory.mktemp("cloud"), flavor="cloud", api_key=KEYS["cloud"]) as server:
        (server.data_dir / "bucket").mkdir()
        write_json(server.data_dir / "bucket", "good.json", rows(3))
        write_json(server.data_dir / "bucket", "broken.json", BROKEN)
        make_collection(server, "books")
        yield server


class Cli:
    """The command line, with its configuration pointed at a local server."""

    def __init__(self, python: Path, folder: Path, url: str) -> None:
        (folder / "config").write_text(f"[default]\nbase_url = {url}\n")
        # `job` takes its address from the program alone, so that one function is given ours
        self._program = (
            "import sys\nfrom zilliz_cli.core import helpers\n"
            f"helpers.get_control_plane_endpoint = lambda: {url!r}\n"
            "from zilliz_cli.cli import main\nsys.argv[0] = 'zilliz'\nsys.exit(main())\n"
        )
        self._python, self._folder = python, folder

    def __call__(self, *words: str, key: str = KEYS["cloud"]) -> subprocess.CompletedProcess[str]:
        command = [str(self._python), "-c", self._program, *words]
        return run(command, ZILLIZ_CONFIG_DIR=str(self._folder), ZILLIZ_API_KEY=key)

    def json(self, *words: str) -> Any:
        result = self(*words, "--output", "json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)


@pytest.fixture
def zilliz(zilliz_python: Path, cloud: LocalServer, tmp_path: Path) -> Cli:
    return Cli(zilliz_python, tmp_path, cloud.url)


def start(zilliz: Cli, file: str) -> str:
    words = ["import", "start", "--cluster-id", CLUSTER, "--collection", "books"]
    job_id = zilliz.json(*words, "--body", json.dumps({"files": [[f"s3://bucket/{file}"]]}))["jobId"]
    assert job_id.startswith("job-")
    return str(job_id)


def test_the_cli_imports_follows_and_lists(zilliz: Cli, cloud: LocalServer) -> None:
    """R29, R30."""
    job_id = start(zilliz, "good.json")
    cloud.wait_for_job(job_id, "Completed", clusterId=CLUSTER)
    status = zilliz.json("import", "status", "--job-id", job_id, "--cluster-id", CLUSTER)
    assert (status["state"], status["progress"], status["totalRows"]) == ("Completed", 100, 3)
    assert (status["fileName"], status["reason"]) == ("good.json", "")
    described = zilliz.json("job", "describe", "--job-id", job_id, "--wait", "--interval", "1")
    assert (described["type"], described["status"], described["progress"]) == ("IMPORT", "SUCCESSFUL", "100")
    listed = zilliz.json("import", "list", "--cluster-id", CLUSTER)["records"]
    assert {"collectionName": "books", "jobId": job_id, "state": "Completed"} in listed


def test_the_cli_shows_a_failed_job(zilliz: Cli, cloud: LocalServer) -> None:
    job_id = start(zilliz, "broken.json")
    cloud.wait_for_job(job_id, "Failed", clusterId=CLUSTER)
    status = zilliz.json("import", "status", "--job-id", job_id, "--cluster-id", CLUSTER)
    assert (status["state"], status["progress"], bool(status["reason"])) == ("Failed", 0, True)
    described = zilliz("job", "describe", "--job-id", job_id, "--wait", "--output", "json")
    assert described.returncode == 1, "the CLI ends so for a failed job"
    assert json.loads(described.stdout)["status"] == "FAILED"


def test_the_cli_shows_errors(zilliz: Cli) -> None:
    unknown = zilliz("import", "status", "--job-id", "job-nowhere", "--cluster-id", CLUSTER)
    assert (unknown.returncode, "[96026]: Job not found" in unknown.stderr) == (1, True)
    described = zilliz("job", "describe", "--job-id", "job-nowhere")
    assert (described.returncode, "[96026]: Job not found" in described.stderr) == (1, True)
    refused = zilliz("import", "list", "--cluster-id", CLUSTER, key="another-0123456789")
    assert (refused.returncode, "[21119]: The apikey is illegal" in refused.stderr) == (1, True)


def test_the_cli_pages(zilliz: Cli, cloud: LocalServer) -> None:
    cloud.clear()
    made = {cloud.add_job({"state": "Importing"}) for _ in range(25)}
    words = ["import", "list", "--cluster-id", CLUSTER, "--page-size", "20", "--page"]
    pages = [zilliz.json(*words, number) for number in ("1", "2", "3")]
    assert [(page["count"], len(page["records"])) for page in pages] == [(25, 20), (25, 5), (25, 0)]
    assert {record["jobId"] for page in pages for record in page["records"]} == made
    too_many = zilliz("import", "list", "--cluster-id", CLUSTER, "--page-size", "101")
    assert "[96008]" in too_many.stderr


def test_the_cli_shows_clusters(zilliz: Cli, cloud: LocalServer) -> None:
    cloud.clear()
    assert zilliz.json("cluster", "describe", "--cluster-id", CLUSTER)["status"] == "RUNNING"
    cloud.set(clusters=[CLUSTER])
    assert [found["clusterId"] for found in zilliz.json("cluster", "list")["clusters"]] == [CLUSTER]
    assert "[96018]" in zilliz("cluster", "describe", "--cluster-id", "in01-other").stderr


# -- the Node SDK -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the installed SDK."""
    if shutil.which("node") is None:
        pytest.skip("Node is not installed, so its SDK cannot be run")
    if given := os.environ.get("ZILLIZ_NODE_SDK"):
        return Path(given) / "node_modules"
    if not INSTALL or shutil.which("npm") is None:
        pytest.skip(f"{NODE_SDK} is not installed: set ZILLIZ_INSTALL_CLIENTS=1, or ZILLIZ_NODE_SDK to its folder")
    folder = tmp_path_factory.mktemp("node-sdk")
    quiet = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
    installed(["npm", "install", "--prefix", str(folder), *quiet, NODE_SDK])
    return folder / "node_modules"


@pytest.fixture(scope="module")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with LocalServer(tmp_path_factory.mktemp("milvus"), api_key=KEYS["milvus"]) as server:
        write_json(server.data_dir, "good.json", rows(3))
        write_json(server.data_dir, "broken.json", BROKEN)
        make_collection(server, "books")
        yield server


def node(modules: Path, server: LocalServer, *calls: tuple[str, dict[str, Any]], key: str = KEYS["milvus"]) -> Any:
    command = ["node", str(NODE_SCRIPT), server.url, key, json.dumps(calls)]
    result = run(command, NODE_PATH=str(modules))
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_the_node_sdk_imports_follows_and_lists(node_modules: Path, milvus: LocalServer) -> None:
    good, broken = ({"collectionName": "books", "files": [[name]]} for name in ("good.json", "broken.json"))
    answers = node(node_modules, milvus, ("createImportJobs", good), ("createImportJobs", broken))["answers"]
    done, failed = (answer["data"]["jobId"] for answer in answers)
    milvus.wait_for_job(done, "Completed")
    milvus.wait_for_job(failed, "Failed")
    calls = [("getImportJobProgress", {"jobId": job_id}) for job_id in (done, failed, UNKNOWN, "x")]
    found = node(node_modules, milvus, *calls, ("listImportJobs", {"collectionName": "books"}))
    described, reason, unknown, no_id, listed = found["answers"]
    assert (described["data"]["state"], described["data"]["importedRows"]) == ("Completed", 3)
    assert (reason["data"]["state"], "dimensions" in reason["data"]["reason"]) == ("Failed", True)
    assert (unknown["code"], no_id["code"]) == (2101, 1100)
    states = {record["jobId"]: record["state"] for record in listed["data"]["records"]}
    assert states == {done: "Completed", failed: "Failed"}
    assert "books" in found["collections"]


def test_the_node_sdk_is_refused_and_has_databases(node_modules: Path, milvus: LocalServer) -> None:
    refused = node(node_modules, milvus, ("listImportJobs", {}), key="root:wrong")["answers"]
    assert refused[0]["status"] == 401
    films = {"dbName": "films"}
    found = node(
        node_modules, milvus, ("createDatabase", films), ("describeDatabase", films), ("listImportJobs", films)
    )
    assert [answer["code"] for answer in found["answers"]] == [0, 0, 0]
    assert found["databases"] == ["default", "films"]
    assert node(node_modules, milvus, ("dropDatabase", films))["databases"] == ["default"]
