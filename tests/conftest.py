"""What all tests share: an Airflow home of their own, and answers made without a server."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# Airflow reads these when it is first imported, so they are set before any test module is.
_home = Path(tempfile.mkdtemp(prefix="zilliz-tests-"))
(_home / "dags").mkdir()
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

pytest_plugins = ["airflow_zilliz.local.pytest_plugin"]
