"""What a wait needs of its task, and how that task defers."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz._protocol.target import Target
from airflow_zilliz._wait.job_results import Tally
from airflow_zilliz._wait.list_memory import Memory
from airflow_zilliz._wait.list_plan import ListPlan
from airflow_zilliz._wait.packing import pack
from airflow_zilliz._wait.policy import WaitPolicy

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_zilliz.hooks import ZillizHook


class WaitingTask(Protocol):
    """What a wait needs of its task, see `WaitsForImport`."""

    zilliz_conn_id: str
    target_state: str
    poke_interval: float
    poll_failure_tolerance: float
    stall_warning: float | None
    retry_on_failure: bool
    deferrable: bool

    @property
    def log(self) -> Any:
        """The task's log."""

    @property
    def defer(self) -> Callable[..., NoReturn]:
        """Airflow's own."""

    def _target(self) -> Target: ...

    def _ids(self) -> dict[str, Any]: ...

    def _policy_options(self) -> dict[str, Any]: ...

    def _hook(self) -> ZillizHook: ...

    def _finish_list(
        self, jobs: Sequence[ImportProgress], error: BaseException | None, text: str, context: Context
    ) -> Any: ...


@dataclass(frozen=True)
class Span:
    """When a wait began, and when it ends at the latest. Epoch seconds, None for never."""

    started_at: float
    deadline: float | None = None
    execution_deadline: float | None = None


def policy_of(task: WaitingTask, target_state: ImportState) -> WaitPolicy:
    """Return what a task asks of each of its waits."""
    return WaitPolicy(
        target_state=target_state,
        poke_interval=task.poke_interval,
        poll_failure_tolerance=task.poll_failure_tolerance,
        stall_warning=task.stall_warning,
        **task._policy_options(),
    )


def trigger_arguments(task: WaitingTask, policy: WaitPolicy, span: Span) -> dict[str, Any]:
    """Return the arguments that the triggers for one job and for many have in common."""
    return {
        "zilliz_conn_id": task.zilliz_conn_id,
        **task._ids(),
        "target_state": policy.target_state.value,
        "poke_interval": policy.poke_interval,
        "poll_failure_tolerance": policy.poll_failure_tolerance,
        "stall_warning": policy.stall_warning,
        "exponential_backoff": policy.exponential_backoff,
        "max_wait": policy.max_wait,
        "ignore_errors": policy.ignore_errors,
        **vars(span),
    }


def backstop_of(span: Span, margin: timedelta) -> timedelta | None:
    """Return after how long Airflow itself ends a deferral that begins now, None for never.

    :param margin: how long after the end of the wait that is
    """
    ends = [end for end in (span.deadline, span.execution_deadline) if end is not None]
    return timedelta(seconds=max(0.0, min(ends) - time.time())) + margin if ends else None


def defer_for_jobs(
    task: WaitingTask,
    plan: ListPlan,
    job_ids: Sequence[str],
    memory: Memory,
    recorded: Tally,
    *,
    method: str,
    margin: timedelta,
    owned_ids: Sequence[str] = (),
) -> NoReturn:
    """Defer a task until some of its jobs have ended.

    :param job_ids: the open jobs
    :param memory: what is remembered of them
    :param recorded: the jobs that have ended and are recorded
    :param method: the method with which Airflow resumes the task, with the wait's span as its arguments
    :param margin: how long after the plan's end Airflow itself ends the deferral, in case no triggerer is running
    :param owned_ids: the jobs to abort if a user kills the deferred task
    """
    from airflow_zilliz import triggers  # here, since a worker that polls needs no trigger

    trigger: Callable[..., triggers.ZillizImportListTrigger] = triggers.ZillizImportListTrigger
    if owned_ids and hasattr(trigger, "on_kill"):  # from Airflow 3.3 on
        trigger = functools.partial(triggers.ZillizOwnedImportListTrigger, owned_ids=pack(list(owned_ids)))
    span = Span(plan.started_at, plan.deadline, plan.execution_deadline)
    task.defer(
        trigger=trigger(
            job_ids=pack(list(job_ids)),
            **trigger_arguments(task, plan.policy, span),
            memory=memory.packed(),
            recorded=recorded.as_json(),
            checkpoint_at=plan.checkpoint_at if plan.checkpoint_at is not None else time.time(),
            checkpoint_jobs=plan.checkpoint_jobs,
            fail_fast=plan.fail_fast,
            withhold_reasons=plan.withhold_reasons,
            keep_files=plan.keep_files,
        ),
        method_name=method,
        kwargs=vars(span),
        timeout=backstop_of(span, margin),
    )
