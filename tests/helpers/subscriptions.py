"""Subscriptions and schedules for tests of the poller's parts that do no I/O."""

from __future__ import annotations

from typing import Any

from airflow_zilliz._poller.subscription import Subscription
from airflow_zilliz._protocol.target import Target
from airflow_zilliz._wait.policy import WaitPolicy
from airflow_zilliz._wait.state_machine import ImportWait

NOW = 1000.0


def wait(job_id: str, started_at: float = NOW - 10_000, deadline: float | None = None, **policy: Any) -> ImportWait:
    return ImportWait(job_id, "c", Target(), WaitPolicy(**policy), started_at, NOW, deadline=deadline)


def subscription(job_id: str = "j-0", pace: float = 30.0, **fields: Any) -> Subscription:
    """A subscription as it is in a schedule, last polled at NOW."""
    one = Subscription(wait(job_id, **fields), NOW)
    one.pace, one.due = pace, NOW + pace
    return one
