"""Airflow in a browser, beside a local import server, with a connection to it and the example DAGs."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import requests

from airflow_zilliz.local.testing import LocalServer
from dev.airflow_process import AirflowApi, RunningError, airflow
from dev.demo import import_server, make_collection, say, step
from dev.supervisor import end_with_parent

CONN_ID = "zilliz_default"


@contextmanager
def opened(
    home: Path,
    dags: Path,
    *,
    port: int | None = None,
    settings: Mapping[str, str] | None = None,
    console_url: str = "https://cloud.zilliz.com",
) -> Iterator[tuple[AirflowApi, LocalServer]]:
    """Run Airflow and the local import server until the block ends.

    The connection is in Airflow's database, so that it has a form with a Test button.

    :param home: the folder for logs and data; emptied first
    :param dags: the DAGs folder
    :param port: Airflow's; None picks a free one
    :param settings: environment variables that differ from `environment`'s
    :param console_url: the address that the tasks' console button opens
    :raises RunningError: Airflow does not start
    """
    server = import_server(home)
    shown = {"AIRFLOW__CORE__TEST_CONNECTION": "Enabled", "AIRFLOW__CORE__PARALLELISM": "4", **(settings or {})}
    with server, airflow(home, dags, None, shown, port=port) as api:
        make_collection(server, home / "data")
        api.version  # noqa: B018 - waits until Airflow is up
        fields = json.loads(server.connection(console_url=console_url))
        # the Test button of Airflow 3.3.2 refuses a connection without a port
        fields["host"], _, port_text = fields["host"].rpartition(":")
        fields |= {"connection_id": CONN_ID, "port": int(port_text), "extra": json.dumps(fields["extra"])}
        api.call("POST", "connections", fields)
        yield api, server


def main() -> int:
    """Run until Ctrl-C."""
    arguments = argparse.ArgumentParser(prog="python -m dev.ui", description=__doc__)
    arguments.add_argument("--dags", type=Path, required=True, help="the folder of the example DAGs")
    arguments.add_argument("--home", type=Path, required=True, help="the folder for logs and data; emptied first")
    arguments.add_argument("--port", type=int, help="Airflow's port; a free one by default")
    options = arguments.parse_args()
    home = options.home.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    end_with_parent()
    step("Starting Airflow and a local import server over Milvus Lite")
    try:
        with opened(home, options.dags.resolve(), port=options.port) as (api, server):
            step(f"Airflow {api.version}: {api.url}")
            say("  No login is required: whoever opens the address is an admin. Only this machine can reach it.")
            say(f"  Connection {CONN_ID!r} points to the import server, {server.url}; its key: {server.api_key}")
            say(f"  Collection 'demo' exists; files to import: {home / 'data'}")
            say("  DAG zilliz_import_wait imports part-1.parquet; trigger it with broken.json to see it fail.")
            say("Ctrl-C ends all of it.")
            signal.pause()
    except KeyboardInterrupt:
        say(f"\nEnded; nothing is left running. Logs and data: {home}")
        return 0
    except (RunningError, requests.RequestException) as err:
        say(f"Airflow could not be started: {err}")
        say(f"Logs: {home / 'airflow.log'}, {home / 'import-server.log'}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
