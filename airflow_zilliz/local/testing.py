"""Starts the local import server for tests, and controls it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests

#: Seconds that the server may take to start.
STARTS_WITHIN = 60.0
_TIMEOUT = 30


class LocalServer:
    """A local import server in its own process, with its control routes.

    It ends with the process that started it, even if that one is killed.

    :param data_dir: the folder to import files from
    :param flavor: whose API it speaks, ``milvus`` or ``cloud``
    :param milvus: the Milvus version that it behaves like, ``2.4`` to ``3.0``; None for the newest
    :param api_key: the key that requests must have; None to accept any request
    :param port: 0 picks a free port, and keeps it over a restart
    :param max_files: inner lists of a request; None for Milvus's 1,024, or the Cloud's 1,000
    :param max_jobs: jobs that have not ended; None for Milvus's 1,024, or the Cloud's 10,000 of a collection
    :param max_file_size: bytes of one file; None for Milvus's 16 GB, or the Cloud's 10 GB
    :param max_request_size: bytes of all files of a request; None for no limit, or the Cloud's 1 TB
    :param options: further command-line options
    :param log_path: the file for its log; None for no log
    :param face: older name of ``flavor``
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        flavor: str = "milvus",
        milvus: str | None = None,
        api_key: str | None = None,
        port: int = 0,
        max_files: int | None = None,
        max_jobs: int | None = None,
        max_file_size: int | None = None,
        max_request_size: int | None = None,
        options: tuple[str, ...] = (),
        log_path: Path | None = None,
        face: str | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.flavor = face or flavor
        self.milvus = milvus
        self.limits = {
            "max-files": max_files,
            "max-jobs": max_jobs,
            "max-file-size": max_file_size,
            "max-request-size": max_request_size,
        }
        self.api_key = api_key
        self.port = port
        self.options = options
        self.log_path = log_path
        self.url = ""
        self._process: subprocess.Popen[str] | None = None
        self._session = requests.Session()
        self._session.trust_env = False

    @property
    def face(self) -> str:
        """Older name of ``flavor``."""
        return self.flavor

    def start(self) -> LocalServer:
        """Start the server and wait until it and its Milvus Lite accept connections.

        :raises RuntimeError: it ended, or does not listen within a minute; its log says why
        """
        command = [sys.executable, "-m", "airflow_zilliz.local", "--control", "--port", str(self.port)]
        command += ["--parent", str(os.getpid()), "--data-dir", str(self.data_dir), "--flavor", self.flavor]
        given = {"milvus": self.milvus, "api-key": self.api_key, **self.limits}
        command += [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
        command += self.options
        with (self.log_path or Path(os.devnull)).open("a") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)  # noqa: S603 - ours
        assert self._process.stdout is not None  # noqa: S101 - it is piped
        listens, _, _ = select.select([self._process.stdout], [], [], STARTS_WITHIN)
        self.url = self._process.stdout.readline().strip() if listens else ""
        if not self.url:
            self._process.kill()
            raise RuntimeError(f"the local import server did not start (exit status {self._process.wait()})")
        self.port = int(self.url.rpartition(":")[2])
        return self

    def stop(self) -> None:
        """Stop the server, as Ctrl-C would."""
        if self._process is not None:
            self._process.terminate()
            self._wait()

    def kill(self) -> None:
        """Kill the server, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._wait()

    def restart(self, *, kill: bool = False, keep_jobs: bool = True) -> None:
        """Stop the server and start it again, on the same port and with the same Milvus Lite.

        Faults, settings, the script and the clock are as at its first start; a job that was being imported is Failed.

        :param kill: kill it, as a crash would
        :param keep_jobs: whether the jobs survive the restart
        """
        if kill:
            self.kill()
        else:
            self.stop()
        if not keep_jobs:
            _lose_jobs(self.data_dir, self.options)
        self.start()

    def add_job(self, *phases: dict[str, Any], **job: Any) -> str:
        """Add a scripted job and return its id.

        :param phases: its phases, such as ``{"state": "Importing", "seconds": 2, "progress": 40}``; the
            last one lasts forever
        :param job: ``jobId``, ``collectionName``, ``dbName``, ``totalRows``, ``files``, ``place``
        """
        return str(self._control("POST", "jobs", {**job, "phases": list(phases)})["jobId"])

    def set_job(self, job_id: str, *phases: dict[str, Any], **job: Any) -> None:
        """Give a scripted job other phases, from now on.

        :param phases: with ``job`` as for `add_job`
        """
        self._control("POST", f"jobs/{job_id}", {**job, "phases": list(phases)})

    def forget_job(self, job_id: str) -> None:
        """Lose a job, as retention does."""
        self._control("DELETE", f"jobs/{job_id}")

    def add_fault(self, kind: str, **fault: Any) -> None:
        """Add a fault to the next responses.

        ``add_fault("status", status=503, times=3)``: three errors in the API's own JSON.
        ``add_fault("code", code=65535, path="create", done_after=30)``: a create request whose error does not say
        whether a job is made, and which makes one when the clock has advanced by 30 seconds.
        ``add_fault("reset", path="create", done=True)``: a create request that makes a job, and
        whose response is lost.
        ``add_fault("code", code=2100, path="create")``: a create request that is refused, since there are
        too many jobs.
        ``add_fault("status", status=403, path="describe", job_id=job_id, times=None)``: a description that is
        refused, while the list shows the job.
        ``add_fault("proxy", status=407)``: the page of a proxy; 404 is that of a load balancer without a backend.
        ``add_fault("restart", path="create", done=True, seconds=5, loses_jobs=True)``: the server makes a job, breaks
        the connection, is unreachable for 5 seconds, and knows no job afterwards.

        Faults apply in the order in which they were added, each to its number of responses.

        :param kind: ``status``, ``code``, ``proxy``, ``page``, ``slow``, ``cut``, ``html``, ``reset``, ``huge``,
            ``redirect`` or ``restart``
        :param fault: ``times``, ``path``, ``job_id``, ``after``, ``status``, ``code``, ``message``, ``retry_after``,
            ``seconds``, ``done``, ``done_after``, ``loses_jobs``; each is described at
            `airflow_zilliz.local.control.Fault`
        :raises ValueError: the values make no valid fault
        """
        self._control("POST", "faults", {"kind": kind, **fault})

    def set(self, **settings: Any) -> None:
        """Change settings of the server.

        ``set(milvus="2.5")``: another version. ``set(list_lag=30)``: new jobs are in the list 30 seconds late;
        with ``lists_alternate=True`` in every second list only. ``set(max_jobs=0)``: no further job is accepted.

        :param settings: ``milvus``, ``describe_routed``, ``success_code``, ``idempotency``, ``retention``,
            ``old_shape``, ``requests_per_second``, ``api_key``, ``clusters``, ``collections``, ``list_lag``,
            ``unlisted``, ``lists_alternate``, ``max_files``, ``max_jobs``, ``max_file_size``, ``max_request_size``;
            each is described at `airflow_zilliz.local.control.Settings`
        :raises ValueError: an unknown setting, or an invalid value
        """
        self._control("POST", "settings", settings)

    def advance(self, seconds: float) -> None:
        """Move the server's clock forward, at once.

        Scripted jobs, retention, ``list_lag``, ``done_after``, and the seconds of ``slow`` and ``restart`` follow it;
        `clear` sets it back to the machine's.

        :param seconds: how far, not negative
        :raises ValueError: for anything else
        """
        self._control("POST", "clock", {"seconds": seconds})

    def script(self, *phases: dict[str, Any], **job: Any) -> None:
        """Make every job that is created from now on a scripted one.

        :param phases: with ``job`` as for `add_job`
        """
        self._control("POST", "script", {**job, "phases": list(phases)})

    def requests(self, path: str = "") -> list[dict[str, Any]]:
        """Return the received requests whose path ends with ``path``, oldest first."""
        return [request for request in self._control("GET", "requests") if request["path"].endswith(path)]

    def clear(self, what: str = "all") -> None:
        """Reset jobs, faults, settings, script, requests or clock, or all of them.

        :param what: one of these words, or ``all``
        """
        self._control("DELETE", what)

    def connection(self, **extra: Any) -> str:
        """Return an Airflow connection to this server as JSON, for ``AIRFLOW_CONN_...``."""
        fields: dict[str, Any] = {"conn_type": "zilliz", "host": self.url, "extra": extra}
        if self.api_key:
            user, colon, password = self.api_key.partition(":")
            fields |= {"login": user, "password": password} if colon else {"password": user}
        if self.flavor == "cloud" and not extra.keys() & {"cluster_id", "project_id"}:
            fields["extra"] = {"cluster_id": "in01-local", **extra}
        return json.dumps(fields)

    def wait_for_job(self, job_id: str, *states: str, within: float = 60.0, **place: str) -> dict[str, Any]:
        """Wait until a job is in one of some states, and return its description.

        :param within: seconds
        :param place: ``clusterId``, or ``projectId`` and ``regionId``, of the Cloud flavor
        :raises TimeoutError: it is in none of them by then
        """
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        until = time.monotonic() + within
        while True:
            body = self._session.post(
                f"{self.url}/v2/vectordb/jobs/import/get_progress",  # of every version
                json={"jobId": job_id, **place},
                headers=headers,
                timeout=_TIMEOUT,
            ).json()
            data: dict[str, Any] = body.get("data") or {}
            if data.get("state") in states:
                return data
            if time.monotonic() > until:
                raise TimeoutError(f"job {job_id} is not in {states} after {within:g} s: {body}")
            time.sleep(0.05)

    def _control(self, method: str, what: str, value: Any = None) -> Any:
        response = self._session.request(method, f"{self.url}/_control/{what}", json=value, timeout=_TIMEOUT)
        if response.status_code != 200:
            raise ValueError(f"{method} {what}: {response.text}")
        return response.json()

    def _wait(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def __enter__(self) -> LocalServer:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()
        self._session.close()


def _lose_jobs(data_dir: Path, options: tuple[str, ...]) -> None:
    """Remove the file that a stopped server keeps its jobs in."""
    words = list(options)
    database = Path(words[words.index("--db") + 1]) if "--db" in words else data_dir / ".zilliz-local" / "milvus.db"
    for path in database.parent.glob(f"{database.stem}.jobs.sqlite*"):
        path.unlink()
