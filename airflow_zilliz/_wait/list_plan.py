"""The options of the wait for many jobs, and what it requests from its poller."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from airflow_zilliz._protocol.target import Target
from airflow_zilliz._wait.policy import WaitPolicy
from airflow_zilliz._wait.state_machine import ImportWait


@dataclass(frozen=True, slots=True)
class ListPlan:
    """The options of the wait for many jobs. Times are epoch seconds.

    :param conn_id: named in messages
    :param target: where the jobs live
    :param started_at: when the wait began
    :param deadline: when it times out, with ``execution_deadline``; None for never
    :param checkpoint_at: when results were last recorded; None for ``started_at``
    :param checkpoint_jobs: pause as soon as so many jobs have ended; None for never
    :param fail_fast: end at the first Failed job
    :param withhold_reasons: leave Failed jobs' reasons out, which may hold keys that only a worker can mask
    :param keep_files: keep the names of the jobs' files, for OpenLineage
    """

    conn_id: str
    target: Target
    policy: WaitPolicy
    started_at: float
    deadline: float | None = None
    execution_deadline: float | None = None
    checkpoint_at: float | None = None
    checkpoint_jobs: int | None = None
    fail_fast: bool = False
    withhold_reasons: bool = False
    keep_files: bool = False

    @property
    def for_last_poll(self) -> ListPlan:
        """The plan of the poll after the deadline, which nothing ends early."""
        return replace(self, deadline=None, execution_deadline=None, fail_fast=False)


class Again(NamedTuple):
    """A wait to subscribe again.

    :param delay: seconds from now
    :param look_up: whether to look the connection up again before
    """

    wait: ImportWait
    delay: float = 0.0
    look_up: bool = False
