"""What the wait for many jobs needs to know of its task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from airflow_zilliz._protocol.models import ImportProgress
from airflow_zilliz._protocol.target import Target

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_zilliz.hooks import ZillizHook


class WaitingTask(Protocol):
    """What a task has that waits for jobs, see `WaitsForImport`."""

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
