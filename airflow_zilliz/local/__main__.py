"""Command line of the local import server."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from aiohttp import web

from airflow_zilliz.local.app import ImportServer
from airflow_zilliz.local.engine import Engine
from airflow_zilliz.local.front import Front
from airflow_zilliz.local.importing import Importer
from airflow_zilliz.local.jobs import Face, JobStore

KEY_VARIABLE = "ZILLIZ_LOCAL_API_KEY"


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    arguments = argparse.ArgumentParser(
        prog="python -m airflow_zilliz.local",
        description="A local import server: the REST import API of Zilliz Cloud and Milvus over an embedded Milvus "
        "Lite. REST and gRPC share one port, as they do on Milvus.",
    )
    arguments.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    arguments.add_argument("--port", type=int, default=19530, help="0 takes a free one (default: %(default)s)")
    arguments.add_argument("--data-dir", type=Path, required=True, help="the folder that files are imported from")
    arguments.add_argument(
        "--face",
        type=Face,
        choices=list(Face),
        default=Face.MILVUS,
        metavar="{milvus,cloud}",
        help="whose API to speak",
    )
    arguments.add_argument(
        "--api-key",
        default=os.environ.get(KEY_VARIABLE),
        help=f"what a request must carry, user:password for Milvus (default: ${KEY_VARIABLE}, else none)",
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
    arguments.add_argument(
        "--control", action="store_true", help="serve /_control: scripted jobs and faults, for tests"
    )
    return arguments


async def serve(options: argparse.Namespace) -> None:
    """Run the server until it is told to stop."""
    options.data_dir.mkdir(parents=True, exist_ok=True)
    database: Path = options.db or options.data_dir / ".zilliz-local" / "milvus.db"
    database.parent.mkdir(parents=True, exist_ok=True)
    store = JobStore(database.with_suffix(".jobs.sqlite"))
    engine = Engine(database)
    importer = Importer(store, engine, options.data_dir, database.with_suffix(".staged"), options.tick)
    server = ImportServer(options.face, store, engine, importer, options.api_key, options.control)
    loop = asyncio.get_running_loop()

    async def grpc_port() -> int:
        await loop.run_in_executor(None, engine.start)
        return engine.port

    runner = web.AppRunner(server.app(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    assert runner.server is not None  # noqa: S101 - set up just above
    listener = await loop.create_server(lambda: Front(runner.server, grpc_port), options.host, options.port)  # type: ignore[arg-type] # aiohttp's server makes asyncio protocols
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    importer.start()
    port = listener.sockets[0].getsockname()[1]
    url = f"http://{f'[{options.host}]' if ':' in options.host else options.host}:{port}"
    print(url, flush=True)  # noqa: T201 - the first line is the address, for whoever started this
    extras = f"{'a' if options.api_key else 'no'} key{', control route on' if options.control else ''}"
    sys.stderr.write(
        f"Local import server, {options.face.value} face, {extras}: files from {options.data_dir}. Ctrl-C stops it.\n"
    )
    await stop.wait()
    listener.close()
    await runner.cleanup()
    await loop.run_in_executor(None, importer.close)
    await loop.run_in_executor(None, engine.close)
    store.close()


def main() -> int:
    """Run the command line."""
    options = parser().parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        asyncio.run(serve(options))
    except OSError as err:
        sys.stderr.write(f"Cannot serve on {options.host}:{options.port}: {err}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
