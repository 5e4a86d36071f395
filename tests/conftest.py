"""What all tests share: an Airflow home of their own, and responses made without a server."""

from __future__ import annotations

import asyncio
import atexit
import gc
import importlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.helpers.loops import DebugLoop

# Airflow reads these when it is first imported, so they are set before any test module is.
_home = Path(tempfile.mkdtemp(prefix="zilliz-tests-"))
(_home / "dags").mkdir()
atexit.register(shutil.rmtree, _home, ignore_errors=True)
for _name in [name for name in os.environ if name.startswith("AIRFLOW")]:
    del os.environ[_name]
os.environ |= {
    "AIRFLOW_HOME": str(_home),
    "AIRFLOW__CORE__DAGS_FOLDER": str(_home / "dags"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_home}/airflow.db",
    "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(_home / "logs"),
    "NO_PROXY": "127.0.0.1,localhost",
}

from tests.helpers.dag_runs import DagRunner  # noqa: E402 - it reads where Airflow's home is
from tests.helpers.servers import ServerPool  # noqa: E402

settings.register_profile("quick", max_examples=20)
settings.register_profile("full", max_examples=150)
settings.load_profile("full")  # unless --hypothesis-profile says otherwise


class _LoopPolicy(asyncio.DefaultEventLoopPolicy):
    _loop_factory = DebugLoop


@pytest.fixture(scope="session")
def dag_runner() -> Iterator[DagRunner]:
    """What runs DAGs. It takes seconds to start: tests that need it are in the group ``dags``, for one worker."""
    runner = DagRunner()
    yield runner
    runner.close()


@pytest.fixture(scope="session")
def server_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerPool]:
    """What modules take their servers from; a server of its own is for tests of how it starts and ends."""
    pool = ServerPool(tmp_path_factory.mktemp("servers"))
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def triggerer_modules() -> None:
    """Import what a triggerer has imported long before it runs a trigger."""
    importlib.import_module("airflow.jobs.triggerer_job_runner")
    # its first import is in a thread; test_event_loop.py measures that in its own process
    importlib.import_module("airflow_zilliz._transport.aio")
    # a full collection of this process's large heap takes 0.3 s, which would be taken for a block of ours
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_blocked_loop(triggerer_modules: None) -> Iterator[list[str]]:
    """Fail a test whose event loop stood still for too long, as asyncio's debug log shows."""
    slow: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "took" in record.getMessage():
                slow.append(record.getMessage())

    listener, logger, policy = Listener(), logging.getLogger("asyncio"), asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(_LoopPolicy())
    logger.addHandler(listener)
    yield slow
    logger.removeHandler(listener)
    asyncio.set_event_loop_policy(policy)
    assert slow == [], "the event loop was blocked"
