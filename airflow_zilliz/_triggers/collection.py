"""The trigger that reports each import into a collection that completes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent

from airflow_zilliz._poller.completion_tracker import Completions
from airflow_zilliz._poller.task_log import log, log_ignored
from airflow_zilliz._protocol.models import ImportProgress
from airflow_zilliz._protocol.target import target_arguments
from airflow_zilliz._triggers.base import class_path_of
from airflow_zilliz.exceptions import ZillizError, ZillizUnavailable
from airflow_zilliz.hooks import ZillizHook

if TYPE_CHECKING:
    from airflow.triggers.base import BaseEventTrigger
else:
    try:
        from airflow.triggers.base import BaseEventTrigger
    except ImportError:  # Airflow 2, which has no asset watchers
        from airflow.triggers.base import BaseTrigger as BaseEventTrigger


class ZillizImportEventTrigger(BaseEventTrigger):
    """For an ``AssetWatcher``: one event for each import into a collection that completes, whoever submitted it.

    The event's payload is the result of a wait, see `ZillizImportSensor`, and ``duration`` (seconds or None).
    Imports that completed before the watcher started emit no event. Reported jobs are kept in Airflow's asset state
    store (3.3 and later), so that a restarted triggerer continues from there; a triggerer that is killed between an
    event and its record repeats that event. Before 3.3, imports that complete while no triggerer runs are missed.

    :param collection_name: the collection
    :param zilliz_conn_id: Airflow connection, looked up in the triggerer
    :param cluster_id: and the other ids; None for the connection's
    :param poke_interval: seconds between two polls of the job list
    :param unknown: arguments of a newer version, which are ignored after a rollback to this one
    """

    def __init__(
        self,
        collection_name: str,
        zilliz_conn_id: str = "zilliz_default",
        cluster_id: str | None = None,
        project_id: str | None = None,
        region_id: str | None = None,
        db_name: str | None = None,
        poke_interval: float = 30.0,
        **unknown: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Airflow leaves it untyped
        self._unknown = sorted(unknown)
        if not collection_name:
            raise ValueError("collection_name must not be empty")
        if not poke_interval > 0:
            raise ValueError(f"poke_interval must be a positive number of seconds, not {poke_interval!r}")
        self.collection_name = collection_name
        self.zilliz_conn_id = zilliz_conn_id
        self.cluster_id = cluster_id
        self.project_id = project_id
        self.region_id = region_id
        self.db_name = db_name
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the constructor's arguments."""
        return class_path_of(self), {
            "collection_name": self.collection_name,
            "zilliz_conn_id": self.zilliz_conn_id,
            **self._ids(),
            "poke_interval": self.poke_interval,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll the job list forever; trouble is logged once and tolerated, since nobody would notice an end."""
        await log_ignored(self.log, self._unknown)
        hook = ZillizHook(self.zilliz_conn_id)
        completions: Completions | None = None
        trouble = ""
        while True:
            pause = self.poke_interval
            try:
                completions = completions or Completions.from_json(await self._kept())
                listed = hook.alist_import_jobs(collection_name=self.collection_name, **self._ids())
                jobs = [job async for job in listed if job.collection_name in (None, self.collection_name)]
                begins = completions.reported is None
                for job in completions.new(jobs, time.time()):
                    described = await self._described(hook, job)
                    yield TriggerEvent(described.event())  # type: ignore[no-untyped-call] # Airflow leaves it untyped
                    completions.note(job.job_id, time.time())
                    await self._keep(completions)
                if begins:
                    await self._keep(completions)
                trouble = ""
            except ZillizError as err:
                hook.forget_connection()
                pause = max(pause, getattr(err, "retry_after", None) or 0.0)
                if str(err) != trouble:
                    trouble = str(err)
                    text = "Imports into %r on connection %r cannot be polled, retrying: %s"
                    await log(self.log, logging.WARNING, text, self.collection_name, self.zilliz_conn_id, err)
            await asyncio.sleep(pause)

    async def _described(self, hook: ZillizHook, job: ImportProgress) -> ImportProgress:
        """Return the job with its rows if the server sends them, which not every list has."""
        try:
            described = await hook.aget_import_progress(job.job_id, **self._ids())
        except ZillizError:
            return job
        return replace(described, collection_name=described.collection_name or self.collection_name)

    async def _kept(self) -> Any:
        store: Any = getattr(self, "asset_state_store", None)
        try:
            return None if store is None else await store.aget(self._store_key)
        except Exception as err:  # noqa: BLE001 - it is retried: a fresh start would miss events
            raise ZillizUnavailable(f"Airflow's asset state store cannot be read: {err}") from None

    async def _keep(self, completions: Completions) -> None:
        store: Any = getattr(self, "asset_state_store", None)
        try:
            if store is not None:
                await store.aset(self._store_key, completions.as_json())
        except Exception as err:  # noqa: BLE001 - the next event's note holds this one too
            await log(self.log, logging.WARNING, "Airflow's asset state store cannot be written: %s", err)

    @property
    def _store_key(self) -> str:
        names = (self.zilliz_conn_id, self.cluster_id, self.project_id, self.region_id, self.db_name)
        return "/".join(["zilliz", *(name or "" for name in names), self.collection_name])

    def _ids(self) -> dict[str, Any]:
        return target_arguments(self)
