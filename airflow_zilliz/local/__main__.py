"""Command line of the local import server."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from aiohttp import web

from airflow_zilliz.local.app import ImportServer
from airflow_zilliz.local.engine import Engine, EngineMissing
from airflow_zilliz.local.importing import Importer
from airflow_zilliz.local.jobs import Flavor, JobStore
from airflow_zilliz.local.limits import CLOUD_LIMITS, MILVUS_LIMITS, Limits
from airflow_zilliz.local.loopback import around_proxy
from airflow_zilliz.local.parent import end_with
from airflow_zilliz.local.port_mux import PortMux
from airflow_zilliz.local.server_state import ServerState
from airflow_zilliz.local.versions import NEWEST, VERSIONS

KEY_VARIABLE = "ZILLIZ_LOCAL_API_KEY"


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    arguments = argparse.ArgumentParser(
        prog="python -m airflow_zilliz.local",
        description="A local import server: the REST import API of Zilliz Cloud and Milvus over an embedded Milvus "
        "Lite. REST and gRPC share one port, as they do on Milvus.",
    )
    arguments.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    arguments.add_argument("--port", type=int, default=19530, help="0 picks a free port (default: %(default)s)")
    arguments.add_argument(
        "--data-dir",
        type=Path,
        default=Path("data"),
        help="the folder to import files from, created if missing (default: ./%(default)s)",
    )
    arguments.add_argument(
        "--flavor",
        "--face",
        type=Flavor,
        choices=list(Flavor),
        default=Flavor.MILVUS,
        metavar="{milvus,cloud}",
        help="whose API to speak (default: milvus)",
    )
    arguments.add_argument(
        "--milvus",
        choices=list(VERSIONS),
        default=NEWEST.name,
        help="the Milvus version to behave like (default: %(default)s)",
    )
    arguments.add_argument(
        "--api-key",
        default=os.environ.get(KEY_VARIABLE),
        help=f"the key that requests must have, user:password for Milvus (default: ${KEY_VARIABLE}, else none)",
    )
    arguments.add_argument(
        "--db", type=Path, help="the Milvus Lite database (default: DATA_DIR/.zilliz-local/milvus.db)"
    )
    arguments.add_argument(
        "--tick",
        type=float,
        default=0.0,
        help="seconds between the phases of a job; a real Milvus takes about 2 (default: %(default)s)",
    )
    _add_limits(arguments)
    arguments.add_argument(
        "--control", action="store_true", help="serve /_control, for tests: scripted jobs and faults"
    )
    arguments.add_argument(
        "--parent", type=int, metavar="PID", help="end when this process, which must be the parent, ends"
    )
    return arguments


def _add_limits(arguments: argparse.ArgumentParser) -> None:
    group = arguments.add_argument_group(
        "limits", "the defaults are those of Milvus, or with --flavor cloud those of a Dedicated cluster"
    )
    group.add_argument(
        "--max-files",
        type=int,
        help=f"files, or sets of NumPy files, of a request ({MILVUS_LIMITS.max_files}; cloud {CLOUD_LIMITS.max_files})",
    )
    group.add_argument(
        "--max-jobs",
        type=int,
        help=f"jobs that have not ended ({MILVUS_LIMITS.max_jobs}; cloud {CLOUD_LIMITS.max_jobs} of a collection)",
    )
    group.add_argument("--max-file-size", type=int, metavar="BYTES", help="of one file (16 GB; cloud 10 GB)")
    group.add_argument(
        "--max-request-size", type=int, metavar="BYTES", help="of all files of a request (no limit; cloud 1 TB)"
    )


def limits_of(options: argparse.Namespace) -> Limits:
    """Return the limits from the command line."""
    limits = CLOUD_LIMITS if options.flavor is Flavor.CLOUD else MILVUS_LIMITS
    given = {name: value for name in vars(limits) if (value := getattr(options, name)) is not None}
    return replace(limits, **given)


async def serve(options: argparse.Namespace) -> None:
    """Run the server until a signal stops it."""
    options.data_dir.mkdir(parents=True, exist_ok=True)
    database: Path = options.db or options.data_dir / ".zilliz-local" / "milvus.db"
    database.parent.mkdir(parents=True, exist_ok=True)
    store = JobStore(database.with_suffix(".jobs.sqlite"))
    engine = Engine(database)
    importer = Importer(store, engine, options.data_dir, database.with_suffix(".staged"), options.tick)
    state = ServerState(
        options.flavor, store, engine, importer, VERSIONS[options.milvus], limits_of(options), options.api_key
    )
    server = ImportServer(state, with_control=options.control)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if options.parent is not None:
        end_with(options.parent, stop.set)

    async def grpc_port() -> int:
        await loop.run_in_executor(None, engine.start)
        return engine.port

    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    assert runner.server is not None  # noqa: S101 - set up just above
    listener = await loop.create_server(lambda: PortMux(runner.server, grpc_port), options.host, options.port)  # type: ignore[arg-type] # aiohttp's server makes asyncio protocols
    missing = await _started(engine)
    if not missing:  # else the jobs may be those of another server, which has the engine
        store.fail_broken_off()
        importer.start()
    print(_url(options.host, listener.sockets[0].getsockname()[1]), flush=True)  # noqa: T201 - the first line is the address, for whoever started this
    sys.stderr.write(_headline(options, missing))
    await stop.wait()
    listener.close()
    await runner.cleanup()
    await loop.run_in_executor(None, importer.close)
    await loop.run_in_executor(None, engine.close)
    store.close()


async def _started(engine: Engine) -> str:
    """Start the engine now, since pymilvus would not wait for it; return why it cannot start, ``""`` if it has."""
    try:
        await asyncio.get_running_loop().run_in_executor(None, engine.start)
    except EngineMissing as err:
        return str(err)
    return ""


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _headline(options: argparse.Namespace, missing: str) -> str:
    behaves = "Zilliz Cloud" if options.flavor is Flavor.CLOUD else f"Milvus {options.milvus}"
    extras = f"requires {'a' if options.api_key else 'no'} key{', control route on' if options.control else ''}"
    text = f"Local import server: behaves like {behaves}, {extras}, imports from {options.data_dir}. Ctrl-C stops it.\n"
    return text + (f"Only scripted jobs can run: {missing}\n" if missing else "")


def main() -> int:
    """Run the command line."""
    options = parser().parse_args()
    os.environ |= around_proxy(os.environ)  # gRPC would use a proxy for the engine of this process
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(serve(options))
    except OSError as err:
        sys.stderr.write(f"Cannot serve on {options.host}:{options.port}: {err}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
