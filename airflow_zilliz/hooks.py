"""The hook: calls of the import API, blocking for workers and asynchronous for the triggerer.

The module is longer than others, since each public method repeats the ids that it takes, and documents its errors.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property, partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.connection import get_async_connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_zilliz._protocol import calls
from airflow_zilliz._protocol.import_request import Groups, create_request
from airflow_zilliz._protocol.models import ImportProgress
from airflow_zilliz._protocol.request import Exchange, Request
from airflow_zilliz._protocol.responses import Response
from airflow_zilliz._protocol.scrubbing import mask_patterns
from airflow_zilliz._protocol.target import Target
from airflow_zilliz._submit.job_search import Clock, Log
from airflow_zilliz._submit.record import Record, TaskTry
from airflow_zilliz._submit.submit_once import Remember, Step, Submitted, submit
from airflow_zilliz._submit.values import Submission
from airflow_zilliz._transport.connection_check import check
from airflow_zilliz._transport.connection_fields import CONN_FIELDS, CONN_TYPE, HOOK_NAME, UI_FIELD_BEHAVIOUR
from airflow_zilliz._transport.driver import aexchange, describe, exchange, run_async, run_sync
from airflow_zilliz._transport.endpoint import Endpoint, endpoint_of
from airflow_zilliz.exceptions import ZillizConfigError, ZillizError, ZillizUnavailable

if TYPE_CHECKING:
    from airflow_zilliz._transport.sync import SyncTransport

T = TypeVar("T")


class ZillizHook(BaseHook):
    """Talks to the bulk-import API of Zilliz Cloud's control plane, or of a Milvus.

    Every id that is None is taken from the connection. The methods raise `ZillizError`, in one of its subclasses.

    :param zilliz_conn_id: Airflow connection of type ``zilliz``
    """

    conn_name_attr = "zilliz_conn_id"
    default_conn_name = "zilliz_default"
    conn_type = CONN_TYPE
    hook_name = HOOK_NAME

    def __init__(self, zilliz_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.zilliz_conn_id = zilliz_conn_id
        #: More secrets that must never be shown, besides the connection's own.
        self.other_secrets: tuple[str, ...] = ()
        self._endpoint: Endpoint | None = None

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the form's behaviour for Airflow 2.11 to 3.1; later ones read the provider info."""
        return {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's own fields for Airflow 2.11 to 3.1; later ones read the provider info."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from wtforms import StringField

        return {
            name: StringField(spec["label"], description=spec["description"], widget=BS3TextFieldWidget())
            for name, spec in CONN_FIELDS.items()
        }

    def get_import_progress(
        self,
        job_id: str,
        *,
        cluster_id: str | None = None,
        project_id: str | None = None,
        region_id: str | None = None,
        db_name: str | None = None,
    ) -> ImportProgress:
        """Describe one import job.

        :param job_id: the job, as the import call returned it
        :raises ZillizAuthError: key refused, or no right to the cluster
        :raises ZillizJobNotFound: unknown or expired job id
        :raises ZillizUnavailable: no usable response
        :raises ZillizApiError: any other error of the server
        :raises ZillizConfigError: the connection or the ids cannot be used
        """
        endpoint = self.endpoint()
        target = Target(cluster_id, project_id, region_id, db_name).merged(endpoint.target)
        return self._run(endpoint, describe(endpoint, job_id, target))

    async def aget_import_progress(
        self,
        job_id: str,
        *,
        cluster_id: str | None = None,
        project_id: str | None = None,
        region_id: str | None = None,
        db_name: str | None = None,
    ) -> ImportProgress:
        """Async version of `get_import_progress`."""
        endpoint = await self.aendpoint()
        target = Target(cluster_id, project_id, region_id, db_name).merged(endpoint.target)
        return await run_async(describe(endpoint, job_id, target), partial(aexchange, endpoint))

    def list_import_jobs(
        self,
        *,
        collection_name: str | None = None,
        cluster_id: str | None = None,
        project_id: str | None = None,
        region_id: str | None = None,
        db_name: str | None = None,
    ) -> Iterator[ImportProgress]:
        """Yield the import jobs, page after page, in the server's order. Raises as `get_import_progress`.

        A listed job has its state and collection, on Milvus also percentage and reason, but never rows or files.

        :param collection_name: only this collection's jobs; Zilliz Cloud does not document this filter
        """
        endpoint = self.endpoint()
        target = Target(cluster_id, project_id, region_id, db_name).merged(endpoint.target)
        walk = calls.ListWalk(target, collection_name)
        while not walk.is_over:
            yield from self._run(endpoint, walk.next_page())

    async def alist_import_jobs(
        self,
        *,
        collection_name: str | None = None,
        cluster_id: str | None = None,
        project_id: str | None = None,
        region_id: str | None = None,
        db_name: str | None = None,
    ) -> AsyncIterator[ImportProgress]:
        """Async version of `list_import_jobs`."""
        endpoint = await self.aendpoint()
        target = Target(cluster_id, project_id, region_id, db_name).merged(endpoint.target)
        walk = calls.ListWalk(target, collection_name)
        while not walk.is_over:
            for job in await run_async(walk.next_page(), partial(aexchange, endpoint)):
                yield job

    def bulk_import(
        self,
        collection_name: str,
        *,
        files: Groups | None = None,
        object_urls: Groups | None = None,
        volume_name: str | None = None,
        data_paths: Groups | None = None,
        partition_name: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        token: str | None = None,
        options: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        cluster_id: str | None = None,
        project_id: str | None = None,
        region_id: str | None = None,
        db_name: str | None = None,
    ) -> str:
        """Start an import and return its job id. The request is sent once: if its response is lost, the job may exist.

        Give exactly one kind of source: ``files`` for Milvus; for Zilliz Cloud ``object_urls``, or ``volume_name`` with
        ``data_paths``. Each is a list of lists: an inner list is one file, or the NumPy files of one group.

        :param collection_name: the collection
        :param partition_name: the partition; None for the default one
        :param access_key: of the object storage, with ``secret_key``, and ``token`` for short-lived keys
        :param options: such as ``{"auto_commit": False, "timeout": "300s"}``; values are sent as text
        :param idempotency_key: lets Milvus 2.6.24+ and 3.0.2+ return the first job for a repeated request; 1 to 256
            characters of printable ASCII
        :raises ZillizConfigError: before anything is sent
        :raises ZillizAuthError: key refused, or no right to the cluster
        :raises ZillizApiError: the server refused the request
        :raises ZillizUnavailable: no usable response: a job may have been started, unless ``was_not_taken``
        """
        endpoint = replace(self.endpoint(), other_secrets=tuple(filter(None, (access_key, secret_key, token))))
        target = Target(cluster_id, project_id, region_id, db_name).merged(endpoint.target)
        request = create_request(
            collection_name,
            target,
            files=files,
            object_urls=object_urls,
            volume_name=volume_name,
            data_paths=data_paths,
            partition_name=partition_name,
            access_key=access_key,
            secret_key=secret_key,
            token=token,
            options=options,
            idempotency_key=idempotency_key,
        )
        return self._run(endpoint, calls.create(request))

    def commit_import(
        self,
        job_id: str,
        *,
        cluster_id: str | None = None,
        project_id: str | None = None,
        region_id: str | None = None,
        db_name: str | None = None,
    ) -> None:
        """Make the rows of an Uncommitted job visible. A repeated call changes nothing.

        :param job_id: a job that was created with ``options={"auto_commit": "false"}``
        :raises ZillizApiError: the job is in another state or commits by itself, or the server has no two-phase imports
        :raises ZillizError: as `get_import_progress`
        """
        endpoint = self.endpoint()
        target = Target(cluster_id, project_id, region_id, db_name).merged(endpoint.target)
        self._run(endpoint, calls.commit(job_id, target))

    def abort_import(
        self,
        job_id: str,
        *,
        cluster_id: str | None = None,
        project_id: str | None = None,
        region_id: str | None = None,
        db_name: str | None = None,
    ) -> None:
        """Drop a two-phase job, whose state is Failed from then on. A repeated call changes nothing.

        :param job_id: a job that was created with ``options={"auto_commit": "false"}``; no server aborts another one
        :raises ZillizApiError: the job is committed or commits by itself, or the server has no two-phase imports
        :raises ZillizError: as `get_import_progress`
        """
        endpoint = self.endpoint()
        target = Target(cluster_id, project_id, region_id, db_name).merged(endpoint.target)
        self._run(endpoint, calls.abort(job_id, target))

    def submit(self, submission: Submission, this_try: TaskTry, remember: Callable[[Record], None]) -> Submitted:
        """Start an import unless an earlier try did; raises as `airflow_zilliz._submit.submit_once.submit` does.

        :param remember: stores a record for the next try
        """
        endpoint = self.endpoint()

        def perform(step: Step) -> Any:
            if isinstance(step, Request):
                return self._exchange(endpoint, step)
            if isinstance(step, Clock):
                return time.time()
            if isinstance(step, Remember):
                return remember(step.record)
            if isinstance(step, Log):
                return self.log.log(step.level, "%s", step.text)
            return time.sleep(step.seconds)

        return run_sync(submit(submission, this_try), perform)

    def test_connection(self) -> tuple[bool, str]:
        """Check whether this connection can poll imports; return the verdict, with advice if it cannot."""
        try:
            endpoint = self.endpoint()
            return True, self._run(endpoint, check(endpoint))
        except ZillizError as err:
            return False, str(err)
        finally:
            self.close()

    def endpoint(self) -> Endpoint:
        """Return the connection's endpoint, looked up once.

        :raises ZillizConfigError: there is no such connection, or it cannot be used
        :raises ZillizUnavailable: the look-up itself failed
        """
        if self._endpoint is None:
            try:
                conn = self.get_connection(self.zilliz_conn_id)
            except Exception as err:  # noqa: BLE001 - a look-up fails in as many ways as there are secrets backends
                raise _lookup_error(self.zilliz_conn_id, err) from None
            self._endpoint = replace(endpoint_of(self.zilliz_conn_id, conn), other_secrets=self.other_secrets)
        return self._endpoint

    async def aendpoint(self) -> Endpoint:
        """Async version of `endpoint`."""
        if self._endpoint is None:
            try:
                conn = await get_async_connection(self.zilliz_conn_id)
            except Exception as err:  # noqa: BLE001 - a look-up fails in as many ways as there are secrets backends
                raise _lookup_error(self.zilliz_conn_id, err) from None
            self._endpoint = endpoint_of(self.zilliz_conn_id, conn)
        return self._endpoint

    def forget_connection(self) -> None:
        """Look the connection up again at the next call, for a key that was rotated meanwhile."""
        self._endpoint = None

    def close(self) -> None:
        """Close the blocking calls' HTTP session; a later call opens another."""
        if transport := self.__dict__.pop("_transport", None):
            transport.close()

    def __enter__(self) -> ZillizHook:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @cached_property
    def _transport(self) -> SyncTransport:
        from airflow_zilliz._transport.sync import SyncTransport  # here, since the triggerer needs no requests

        return SyncTransport()

    def _exchange(self, endpoint: Endpoint, request: Request) -> Response:
        return exchange(endpoint, request, self._transport.exchange)

    def _run(self, endpoint: Endpoint, flow: Exchange[T]) -> T:
        return run_sync(flow, partial(self._exchange, endpoint))


def _lookup_error(conn_id: str, err: Exception) -> ZillizError:
    if isinstance(err, AirflowNotFoundException) or "isn't defined" in str(err):
        return ZillizConfigError(f"Connection {conn_id!r} does not exist")
    return ZillizUnavailable(
        f"Connection {conn_id!r} could not be looked up: {type(err).__name__}: {mask_patterns(str(err))}"
    )
