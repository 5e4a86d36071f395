"""What tasks cost a whole Airflow: processes on workers, and CPU."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from tests.e2e.deployment import Deployment

PARTS = ("api-server", "dag-processor", "scheduler", "triggerer-1")
#: What the scheduler prints when a worker's process of a task has ended.
WORKER_ENDED = r"Received executor event with state (?:success|failed).*task_id='{}'"


class AirflowCosts:
    """Counts what the processes of an Airflow have done so far."""

    def __init__(self, airflow: Deployment) -> None:
        self._airflow = airflow

    def worker_starts(self, task_id: str) -> int:
        """Return how many processes of a task have ended on workers."""
        printed = self._airflow.log_of("scheduler").read_text(errors="replace")
        return len(re.findall(WORKER_ENDED.format(re.escape(task_id)), printed))

    def cpu(self, *parts: str) -> float:
        """Return the CPU seconds of Airflow's processes, those that have ended included.

        :param parts: of Airflow; all of them by default
        """
        total = 0.0
        for process in (one for name in parts or PARTS for one in self._airflow.processes(name)):
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system + times.children_user + times.children_system
        return total
