"""Plans the jobs of a dataset, or loads the plan that an earlier try stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_zilliz._protocol.import_request import create_request, digest_of
from airflow_zilliz._protocol.object_path import object_of
from airflow_zilliz._submit.dataset import FileGroup, PlannedJob, groups_of_lists, split
from airflow_zilliz._submit.ledger import Ledger, Phase
from airflow_zilliz._submit.values import changed
from airflow_zilliz._tasks.dataset_account import account
from airflow_zilliz._tasks.dataset_source import key_of_url, list_source
from airflow_zilliz._tasks.dataset_store import KeptListing, LedgerStore, Saved
from airflow_zilliz._tasks.importing import PlansDataset, groups_of, names_of
from airflow_zilliz._wait.texts import plural
from airflow_zilliz.exceptions import ZillizConfigError, ZillizSubmissionUnknown

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class DatasetPlan:
    """The plan of one task."""

    def __init__(self, task: PlansDataset, context: Context) -> None:
        self._task = task
        self._context = context

    def ledger(self, store: LedgerStore) -> Ledger:
        """Return the ledger for this try; a plan is stored before anything is sent."""
        what = self._what()
        saved = store.load()
        if saved is None or saved.what != what:
            self._check_arguments(saved, store)
            ledger = Ledger.of(self._planned(store, what), is_atomic=self._task.atomic)
            store.save_plan(ledger, what)
            files = sum(len(job.paths) for job in ledger.jobs)
            self._task.log.info("%s in %s", plural(files, "file"), plural(len(ledger.jobs), "job"))
            return ledger
        ledger = saved.ledger.for_try(self._context["ti"].try_number)
        if self._task.source is None:
            ledger = ledger.amended(self._given(), self._task.max_files_per_job, self._task.max_bytes_per_job)
        if ledger.is_atomic != self._task.atomic:
            ledger = replace(ledger, is_atomic=self._task.atomic, phase=Phase.LOADING)
        if ledger.jobs != saved.ledger.jobs or ledger.phase is not saved.ledger.phase:
            store.save_plan(ledger, what)
        elif saved.cleared != store.cleared:
            store.save_phase(ledger)
        return ledger

    def _check_arguments(self, saved: Saved | None, store: LedgerStore) -> None:
        """Check that only a user who has cleared the task since begins another import in place of a stored one.

        :raises ZillizSubmissionUnknown: nobody has
        """
        if saved is not None and saved.cleared == store.cleared is not None and saved.ledger.may_have_loaded:
            error = changed(self._task.collection_name, None)
            raise ZillizSubmissionUnknown(f"{error}. {account(saved.ledger)}")

    def _planned(self, store: LedgerStore, what: str) -> Sequence[PlannedJob]:
        if self._task.source is None:
            return split(self._given(), self._task.max_files_per_job, self._task.max_bytes_per_job)
        kept = None if store.outlives_a_try else KeptListing(names_of(self._context["ti"]), what)
        if kept is not None and (jobs := kept.load()):
            return jobs
        jobs = split(self._listed(), self._task.max_files_per_job, self._task.max_bytes_per_job)
        if kept is not None:
            kept.save(tuple(jobs))
        return jobs

    def _listed(self) -> Sequence[FileGroup]:
        default: Callable[[str], str] = str if self._is_cloud() else key_of_url
        groups = list_source(str(self._task.source), self._task.to_path or default).groups
        if groups:
            return groups
        if self._task.fail_on_empty:
            raise ZillizConfigError(f"source {self._task.source!r} contains no file to import")
        raise AirflowSkipException(f"source {self._task.source!r} contains no file to import")

    def _given(self) -> list[FileGroup]:
        return groups_of_lists(groups_of(self._task._sources()))

    def _is_cloud(self) -> bool:
        return bool(self._task._target().merged(self._task._hook().endpoint().target).ids())

    def forget_listing(self) -> None:
        """Remove what was kept for a retry, once the task has succeeded."""
        if self._task.source is not None and self._context.get("task_state_store") is None:
            KeptListing(names_of(self._context["ti"]), self._what()).delete()

    def sources_of(self, job: PlannedJob) -> dict[str, Any]:
        """Return a job's files as the arguments of `create_request`."""
        # of a file that is no longer given, only the object's name is known
        groups = [[self._signed.get(path, path) for path in group.paths] for group in job.groups]
        if self._task.source is not None:
            return {"object_urls" if self._is_cloud() else "files": groups}
        given = self._task._sources()
        return {name: value if name == "volume_name" else groups for name, value in given.items()}

    @cached_property
    def _signed(self) -> Mapping[str, str]:
        """The URLs as this try signs them, by their objects."""
        return {object_of(path): path for group in groups_of(self._task._sources()) for path in group}

    def _what(self) -> str:
        """Return a digest of the import without its files, by which the ledger of another import is recognised.

        A different key of the user's own makes a different import.
        """
        options = {name: value for name, value in (self._task.options or {}).items() if name != "auto_commit"}
        request = create_request(
            self._task.collection_name,
            self._task._target().merged(self._task._hook().endpoint().target),
            files=[[str(self._task.source)]],
            partition_name=self._task.partition_name,
            options={**options, "volume": self._task.volume_name, "key": self._task.idempotency_key},
            idempotency_key=None,
        )
        return digest_of(request)
