"""Starts the local import server for tests, and speaks to its control route."""

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

#: Seconds.
STARTS_WITHIN = 60.0
_TIMEOUT = 30


class LocalServer:
    """A local import server in a process of its own, with its control route on.

    :param data_dir: the folder that files are imported from
    :param face: ``milvus`` or ``cloud``
    :param api_key: what a request must carry; None lets everybody in
    :param port: 0 takes a free one, and keeps it over a restart
    :param options: further words of the command line
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        face: str = "milvus",
        api_key: str | None = None,
        port: int = 0,
        options: tuple[str, ...] = (),
        log_path: Path | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.face = face
        self.api_key = api_key
        self.port = port
        self.options = options
        self.log_path = log_path
        self.url = ""
        self._process: subprocess.Popen[str] | None = None
        self._session = requests.Session()
        self._session.trust_env = False

    def start(self) -> LocalServer:
        """Start the server and wait until it listens.

        :raises RuntimeError: it ended, or does not listen within a minute; its log says why
        """
        command = [sys.executable, "-m", "airflow_zilliz.local", "--control", "--port", str(self.port)]
        command += ["--data-dir", str(self.data_dir), "--face", self.face, *self.options]
        if self.api_key is not None:
            command += ["--api-key", self.api_key]
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
        """Stop the server as Ctrl-C does."""
        if self._process is not None:
            self._process.terminate()
            self._wait()

    def kill(self) -> None:
        """End the server as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._wait()

    def add_job(self, *phases: dict[str, Any], **job: Any) -> str:
        """Make a scripted job and return its id.

        :param phases: stretches of its life, such as ``{"state": "Importing", "seconds": 2, "progress": 40}``; the
            last one lasts for ever
        :param job: ``jobId``, ``collectionName``, ``totalRows``, ``files``, ``place``
        """
        return str(self._control("POST", "jobs", {**job, "phases": list(phases)})["jobId"])

    def set_job(self, job_id: str, *phases: dict[str, Any], **job: Any) -> None:
        """Give a scripted job other phases, from now on."""
        self._control("POST", f"jobs/{job_id}", {**job, "phases": list(phases)})

    def forget_job(self, job_id: str) -> None:
        """Lose a job, as retention does."""
        self._control("DELETE", f"jobs/{job_id}")

    def add_fault(self, kind: str, **fault: Any) -> None:
        """Let the next answers go wrong, see `airflow_zilliz.local.control.Fault`."""
        self._control("POST", "faults", {"kind": kind, **fault})

    def set(self, **settings: Any) -> None:
        """Change how the server is, see `airflow_zilliz.local.control.Settings`."""
        self._control("POST", "settings", settings)

    def script(self, *phases: dict[str, Any], **job: Any) -> None:
        """Let every job that is created from now on be a scripted one."""
        self._control("POST", "script", {**job, "phases": list(phases)})

    def requests(self, path: str = "") -> list[dict[str, Any]]:
        """Return the requests that came, oldest first, those whose path ends like ``path``."""
        return [request for request in self._control("GET", "requests") if request["path"].endswith(path)]

    def clear(self, what: str = "all") -> None:
        """Forget jobs, faults, settings, script or requests, or all of it."""
        self._control("DELETE", what)

    def connection(self, **extra: Any) -> str:
        """Return an Airflow connection to this server as JSON, for ``AIRFLOW_CONN_...``."""
        fields: dict[str, Any] = {"conn_type": "zilliz", "host": self.url, "extra": extra}
        if self.api_key:
            user, colon, password = self.api_key.partition(":")
            fields |= {"login": user, "password": password} if colon else {"password": user}
        if self.face == "cloud" and not extra.keys() & {"cluster_id", "project_id"}:
            fields["extra"] = {"cluster_id": "in01-local", **extra}
        return json.dumps(fields)

    def wait_for_job(self, job_id: str, *states: str, within: float = 60.0, **place: str) -> dict[str, Any]:
        """Return a job's description once it is in one of some states."""
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        until = time.monotonic() + within
        while True:
            answer = self._session.post(
                f"{self.url}/v2/vectordb/jobs/import/describe",
                json={"jobId": job_id, **place},
                headers=headers,
                timeout=_TIMEOUT,
            ).json()
            data: dict[str, Any] = answer.get("data") or {}
            if data.get("state") in states:
                return data
            if time.monotonic() > until:
                raise TimeoutError(f"job {job_id} is not in {states} after {within:g} s: {answer}")
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
