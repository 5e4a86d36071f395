"""What the triggers share: their class paths, their first delay, their arguments as values, and their log lines."""

from __future__ import annotations

import functools

from airflow.providers.common.compat.sdk import conf
from airflow.triggers.base import BaseTrigger

from airflow_zilliz._protocol.models import ImportState
from airflow_zilliz._protocol.target import Target, target_arguments
from airflow_zilliz._wait.policy import WaitPolicy
from airflow_zilliz._wait.state_machine import Decision

#: Airflow 3 fails a task whose trigger fires before the scheduler heard that its worker is done. A worker's supervisor
#: notices that at once, or, if it missed the process's end, at its next heartbeat (seen on 3.3.2, one task in four).
SHORTEST_FIRST_DELAY = 2.0 + conf.getfloat("workers", "min_heartbeat_interval", fallback=0.0)

#: What each trigger that waits stores beside its own arguments.
COMMON_ARGUMENTS = (
    "zilliz_conn_id",
    "cluster_id",
    "project_id",
    "region_id",
    "db_name",
    "target_state",
    "poke_interval",
    "poll_failure_tolerance",
    "exponential_backoff",
    "max_wait",
    "ignore_errors",
    "started_at",
    "deadline",
    "execution_deadline",
    "stall_warning",
)

# thousands of waits share equal ones
_target = functools.lru_cache(maxsize=128)(Target)
_policy = functools.lru_cache(maxsize=128)(WaitPolicy)


def class_path_of(trigger: BaseTrigger) -> str:
    """Return the path that Airflow stores for a trigger, which outlives versions: that of the public module."""
    return f"airflow_zilliz.triggers.{type(trigger).__name__}"


class WaitTrigger(BaseTrigger):
    """A trigger that waits for one job or many."""

    target_state: str
    poke_interval: float
    poll_failure_tolerance: float
    stall_warning: float | None
    exponential_backoff: bool
    max_wait: float | None
    ignore_errors: bool

    def log_notes(self, step: Decision) -> None:
        """Write a decision's notes into the task's log."""
        for level, text in step.notes:
            self.log.log(level, "%s", text)

    def _place(self) -> Target:
        return _target(**target_arguments(self))

    def _wanted(self) -> WaitPolicy:
        return _policy(
            target_state=ImportState.from_word(self.target_state),
            poke_interval=self.poke_interval,
            poll_failure_tolerance=self.poll_failure_tolerance,
            stall_warning=self.stall_warning,
            exponential_backoff=self.exponential_backoff,
            max_wait=self.max_wait,
            ignore_errors=self.ignore_errors,
        )
