"""The base of the operators that start imports: what they import, and with which keys of its object storage."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseHook

from airflow_zilliz._protocol.import_request import Groups, create_request, digest_of
from airflow_zilliz._protocol.request import Request
from airflow_zilliz._protocol.scrubbing import Scrubber
from airflow_zilliz._submit.idempotency_keys import former_key_of, key_of
from airflow_zilliz._submit.record import Patience
from airflow_zilliz._submit.storage_keys import NO_STORAGE, StorageKeys, keys_of
from airflow_zilliz._submit.values import Submission
from airflow_zilliz._tasks.masking import mask_signed_urls
from airflow_zilliz._tasks.two_phase import ImportOperatorBase
from airflow_zilliz._wait.outcome import Outcome
from airflow_zilliz.exceptions import ZillizError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_zilliz.hooks import ZillizHook

#: How long a killed task waits until its jobs are aborted; Airflow kills it with -9 after 60 s.
ABORT_SECONDS = 25.0
#: The pause before a retry of a task whose jobs a triggerer may be aborting.
SETTLING_SECONDS = 10.0


class StartsImports(ImportOperatorBase):
    """An operator that starts imports; see `airflow_zilliz.operators.ZillizImportOperator` for its arguments."""

    template_fields: Sequence[str] = (
        "collection_name",
        "files",
        "object_urls",
        "volume_name",
        "data_paths",
        "partition_name",
        "options",
        "idempotency_key",
        "storage_conn_id",
        "zilliz_conn_id",
        "cluster_id",
        "project_id",
        "region_id",
        "db_name",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "files": "json",
        "object_urls": "json",
        "data_paths": "json",
        "options": "json",
    }

    def __init__(
        self,
        *,
        collection_name: str,
        files: Groups | None,
        object_urls: Groups | None,
        volume_name: str | None,
        data_paths: Groups | None,
        partition_name: str | None,
        options: Mapping[str, Any] | None,
        storage_conn_id: str | None,
        idempotency_key: str | None,
        cancel_on_kill: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.collection_name = collection_name
        self.files = files
        self.object_urls = object_urls
        self.volume_name = volume_name
        self.data_paths = data_paths
        self.partition_name = partition_name
        self.options = options
        self.storage_conn_id = storage_conn_id
        self.idempotency_key = idempotency_key
        self.cancel_on_kill = cancel_on_kill
        self._storage: StorageKeys | None = None

    def _hook(self) -> ZillizHook:
        hook = super()._hook()
        hook.other_secrets = self._storage_secrets()
        return hook

    def _storage_keys(self) -> StorageKeys:
        """Return the object storage's keys, looked up once on each worker.

        :raises ZillizConfigError: they cannot be looked up
        """
        if self._storage is None:
            self._storage = (
                keys_of(self.storage_conn_id, BaseHook.get_connection) if self.storage_conn_id else NO_STORAGE
            )
        return self._storage

    def _storage_secrets(self) -> tuple[str, ...]:
        """Return the secrets that a server's reasons may contain; none if they cannot be looked up."""
        try:
            return self._storage_keys().secrets
        except ZillizError:
            return ()  # the code that needs them reports that

    def _trigger_options(self) -> dict[str, Any]:
        return {"withhold_reasons": True} if self.storage_conn_id else {}

    def _do_render_template_fields(self, *args: Any, **kwargs: Any) -> None:
        """Render, and mask signed URLs before Airflow stores the rendered fields, also those of mapped tasks."""
        super()._do_render_template_fields(*args, **kwargs)
        mask_signed_urls([self.files, self.object_urls, self.data_paths])

    def _finish(self, end: Outcome, context: Context) -> dict[str, Any] | None:
        """Keep the object storage's keys out of results and errors."""
        end = end.scrubbed(Scrubber(self._storage_secrets()))
        if self.storage_conn_id and self._storage is None:
            end = end.without_reasons(
                ". Its reason is not shown, since it may contain the keys of storage_conn_id "
                f"{self.storage_conn_id!r}, which cannot be looked up now"
            )
        return super()._finish(end, context)

    def _abort_in_time(self, job_ids: Sequence[str]) -> None:
        """Abort the jobs of a killed task, within the time that Airflow leaves it."""
        # in a thread, since the signal may have interrupted a request of this one
        aborting = threading.Thread(target=self._abort_all, args=(job_ids,), daemon=True)
        aborting.start()
        aborting.join(ABORT_SECONDS)

    def _abort_all(self, job_ids: Sequence[str]) -> None:
        with self._hook() as hook:
            for job_id in job_ids:
                try:
                    hook.abort_import(job_id, **self._ids())
                except ZillizError as err:
                    self.log.warning("The task was killed, but import job %s could not be aborted: %s", job_id, err)
                else:
                    self.log.info("Import job %s was aborted, since its task was killed", job_id)

    def _submission_of(
        self, sources: Mapping[str, Any], names: Sequence[Any], storage: StorageKeys, patience: Patience
    ) -> Submission:
        """Return the submission of some files; what cannot be sent raises before any request.

        :param sources: the arguments of `create_request` that say what is imported
        :param names: of the task instance; empty where no request will be made
        """
        target = self._target().merged(self._hook().endpoint().target)

        def request(key: str | None) -> Request:
            return create_request(
                self.collection_name,
                target,
                **sources,
                partition_name=self.partition_name,
                access_key=storage.access_key,
                secret_key=storage.secret_key,
                token=storage.token,
                options=self.options,
                idempotency_key=key,
            )

        digest = digest_of(request(self.idempotency_key))
        return Submission(
            collection_name=self.collection_name,
            target=target,
            request=request,
            key=self.idempotency_key or key_of(*names, digest=digest),
            digest=digest,
            groups=groups_of(sources),
            whole_paths=sources.get("files") is not None,
            is_own_key=bool(self.idempotency_key),
            former_key=former_key_of(*names),
            patience=patience,
        )

    def _paths(self) -> tuple[str, ...]:
        return tuple(path for group in groups_of(self._sources()) for path in group)

    def _check_source(self) -> None:
        given = [name for name in ("files", "object_urls", "data_paths") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                "exactly one of files, object_urls, or volume_name with data_paths must be given, not "
                f"{' and '.join(given) or 'none'}"
            )
        if (self.volume_name is None) != (self.data_paths is None):
            raise ValueError("volume_name and data_paths go together")

    def _sources(self) -> dict[str, Any]:
        sources = {"files": self.files, "object_urls": self.object_urls, "data_paths": self.data_paths}
        groups = {name: value for name, value in sources.items() if value is not None}
        return {**groups, "volume_name": self.volume_name}


class PlansDataset(StartsImports):
    """The arguments of the dataset operator that its plan reads."""

    source: str | None
    to_path: Callable[[str], str] | None
    fail_on_empty: bool
    max_files_per_job: int
    max_bytes_per_job: int | None
    atomic: bool


def names_of(ti: Any) -> tuple[Any, ...]:
    """Return what identifies a task instance, for its idempotency keys."""
    mapped = ti.map_index is not None and ti.map_index >= 0
    return (ti.dag_id, ti.run_id, ti.task_id, *([ti.map_index] if mapped else []))


def groups_of(sources: Mapping[str, Any]) -> list[list[str]]:
    """Return the groups of files among the arguments of `create_request`."""
    return next((list(map(list, value)) for name, value in sources.items() if name != "volume_name"), [])
