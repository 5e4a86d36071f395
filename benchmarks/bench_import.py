"""The modules and the time that importing the sensor adds to those of Airflow's own sensor base.

A DAG processor pays for them with every DAG file, so there must be few, and no HTTP client among them.
"""

from __future__ import annotations

import json
import subprocess
import sys

LIMIT = 20
UNWANTED = ("requests", "aiohttp")
PROBE = """
import json, sys, time
exec({first!r})
before = set(sys.modules)
start = time.perf_counter()
exec({second!r})
took = time.perf_counter() - start
print(json.dumps([sorted(set(sys.modules) - before), took]))
"""
PURE_BASE = """
try:
    from airflow.sdk.bases.sensor import BaseSensorOperator
except ImportError:
    from airflow.sensors.base import BaseSensorOperator
"""
SENSOR = "import airflow_zilliz.sensors"


def probe(first: str, second: str) -> tuple[list[str], float]:
    """Return the modules that `second` adds after `first`, and its seconds, in a fresh interpreter."""
    code = PROBE.format(first=first, second=second)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    modules, took = json.loads(out.splitlines()[-1])
    return modules, took


def main() -> int:
    added, took = probe(PURE_BASE, SENSOR)
    others, base_took = probe("", PURE_BASE)
    clients = [name for name in added if name.partition(".")[0] in UNWANTED]
    print(f"Airflow's sensor base: {len(others)} modules, {base_took:.2f} s")
    print(f"airflow_zilliz.sensors adds {len(added)} modules (limit {LIMIT}), {took * 1000:.1f} ms:")
    print("  " + "\n  ".join(added))
    print(f"HTTP clients among them: {', '.join(clients) or 'none'}")
    return 0 if len(added) <= LIMIT and not clients else 1


if __name__ == "__main__":
    raise SystemExit(main())
