"""What a task reports: the addresses of its buttons, the extra of its asset events, and lineage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_zilliz._protocol.models import ImportProgress
from airflow_zilliz._protocol.target import Target, target_arguments
from airflow_zilliz.exceptions import ZillizError
from airflow_zilliz.links import LINKS, store_links

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_zilliz._tasks.openlineage import Lineage
    from airflow_zilliz.hooks import ZillizHook


class ReportsImports(BaseOperator):
    """A task with a connection, and imports to report."""

    operator_extra_links = LINKS

    zilliz_conn_id: str
    cluster_id: str | None
    project_id: str | None
    region_id: str | None
    db_name: str | None
    _lineages: tuple[Lineage, ...] = ()
    _only_hook: ZillizHook | None = None

    def _hook(self) -> ZillizHook:
        """Return the hook of this stretch on a worker, which looks its connection up once."""
        if self._only_hook is None:
            from airflow_zilliz.hooks import ZillizHook  # here, since parsing a DAG needs no HTTP client

            self._only_hook = ZillizHook(self.zilliz_conn_id)
        return self._only_hook

    def _target(self) -> Target:
        return Target(self.cluster_id or None, self.project_id or None, self.region_id or None, self.db_name or None)

    def _ids(self) -> dict[str, Any]:
        return target_arguments(self)

    def _paths(self) -> Sequence[str]:
        """Return the files that the task itself imports."""
        return ()

    def _store_links(self, context: Context) -> None:
        """Store the addresses of the task's buttons, before anything can fail."""
        ti: Any = context.get("ti") if context else None
        if ti is not None:  # a user's test may pass no task instance
            store_links(ti, self._hook())

    def _add_outlet_extra(self, event: Mapping[str, Any], context: Context) -> None:
        """Add what was imported to the event of each asset among the outlets."""
        events: Any = context.get("outlet_events")
        for outlet in self.outlets if events is not None else ():
            if getattr(outlet, "uri", None):  # an alias has none, and stands for whatever the task adds to it
                events[outlet].extra.update(event)

    def _note_lineage(self, jobs: Sequence[ImportProgress], error: str | None) -> None:
        """Store what OpenLineage requests after the task's end, when no connection can be looked up.

        :param error: why the wait for a single job failed; of many, each Failed one has its reason
        """
        from airflow_zilliz._tasks.openlineage import has_openlineage, lineage_of  # here, since parsing needs none

        if not has_openlineage():
            return
        try:
            endpoint = self._hook().endpoint()
        except ZillizError:
            return
        target = self._target().merged(endpoint.target)
        self._lineages = tuple(lineage_of(endpoint, target, job, self._paths(), error) for job in jobs)

    def get_openlineage_facets_on_complete(self, task_instance: object) -> Any:
        """Return what OpenLineage's listener requests from an operator."""
        from airflow_zilliz._tasks.openlineage import operator_lineage

        return operator_lineage(*self._lineages) if self._lineages else None

    def get_openlineage_facets_on_failure(self, task_instance: object) -> Any:
        """Return the same as on completion; the error is among the facets."""
        return self.get_openlineage_facets_on_complete(task_instance)
