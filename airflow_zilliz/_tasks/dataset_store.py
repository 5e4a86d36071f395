"""Stores the ledger of a dataset's import: in Airflow 3.3's task state store, before 3.3 in XComs.

The store outlives tries and clears. XComs outlive deferrals only; so before 3.3 the listing of a ``source`` is kept in
an Airflow variable as well until the task succeeds, since a retry must not split other files into other jobs.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_zilliz._submit.dataset import PlannedJob
from airflow_zilliz._submit.ledger import Entry, Ledger, Phase
from airflow_zilliz._tasks.task_state import clears_of
from airflow_zilliz._wait.packing import pack, unpack
from airflow_zilliz.exceptions import ZillizSubmissionUnknown, ZillizUnavailable

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_KEY = "zilliz_dataset"
#: Characters of the plan in one value, whose advised size is 64 KB, and jobs in one page of entries.
_SLICE, _PAGE = 48_000, 50

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Saved:
    """What is stored.

    :param what: digest of what is imported, without its files
    :param cleared: how often the task had been cleared when it last worked on this; None for unknown
    """

    ledger: Ledger
    what: str
    cleared: int | None = None


class LedgerStore:
    """The stored ledger of one task. A plan is stored completely before the head that names it."""

    def __init__(self, context: Context) -> None:
        self._ti: Any = context["ti"]
        self._store: Any = context.get("task_state_store")
        self.cleared = clears_of(self._ti)
        self._generation = 0
        self._head: dict[str, Any] = {}

    @property
    def outlives_a_try(self) -> bool:
        """Whether a retry finds what this try stores."""
        return self._store is not None

    def load(self) -> Saved | None:
        """Return what is stored, None for nothing.

        :raises ZillizUnavailable: the store cannot be read
        :raises ZillizSubmissionUnknown: what is stored cannot be understood
        """
        head = self._get(_KEY)
        if head is None:
            return None
        try:
            return self._read(head)
        except (ValueError, KeyError, TypeError) as err:
            raise ZillizSubmissionUnknown(
                f"What this task has stored about its jobs cannot be read ({err!r}), so it is not known which files "
                "were sent. This try sent nothing. Compare the server's jobs with the files, and import the missing "
                "ones in another run of the DAG"
            ) from err

    def _read(self, head: Mapping[str, Any]) -> Saved:
        self._head, self._generation = dict(head), int(head["generation"])
        text = "".join(str(self._get(self._name("files", index))) for index in range(head["slices"]))
        if _digest(text) != head["digest"]:
            raise ValueError("its files have another digest")
        jobs = tuple(map(PlannedJob.from_json, unpack(text)))
        pages = -(-len(jobs) // _PAGE)
        packed = [unpack(self._get(self._name("jobs", index))) for index in range(pages)]
        entries = tuple(Entry.from_json(value) for page in packed for value in page)
        if len(entries) != len(jobs):
            raise ValueError(f"{len(entries)} entries of {len(jobs)} jobs")
        ledger = Ledger(jobs, entries, bool(head["atomic"]), Phase(head["phase"]))
        return Saved(ledger, str(head["what"]), head.get("cleared"))

    def save_plan(self, ledger: Ledger, what: str) -> None:
        """Store a plan and its ledger.

        :raises ZillizUnavailable: they cannot be written
        """
        text = pack([job.as_json() for job in ledger.jobs])
        slices = [text[begin : begin + _SLICE] for begin in range(0, len(text), _SLICE)]
        self._generation += 1
        for index, part in enumerate(slices):
            self._set(self._name("files", index), part)
        for index in range(0, len(ledger.jobs), _PAGE):
            self._save_page(ledger, index)
        self._head = {"version": 1, "what": what, "slices": len(slices), "digest": _digest(text)}
        self.save_phase(ledger)

    def save_phase(self, ledger: Ledger) -> None:
        """Store the phase.

        :raises ZillizUnavailable: it cannot be written
        """
        facts = {"atomic": ledger.is_atomic, "phase": ledger.phase.value, "cleared": self.cleared}
        self._head |= {"generation": self._generation, **facts}
        self._set(_KEY, dict(self._head))

    def save_entry(self, ledger: Ledger, index: int) -> None:
        """Store what is known of a job, at once if the store outlives the try.

        :raises ZillizUnavailable: it cannot be written
        """
        if self.outlives_a_try:
            self._save_page(ledger, index)

    def before_deferral(self, ledger: Ledger) -> None:
        """Store what the next process of this try has to know."""
        if not self.outlives_a_try:
            for index in range(0, len(ledger.jobs), _PAGE):
                self._save_page(ledger, index)

    def _save_page(self, ledger: Ledger, index: int) -> None:
        page = index // _PAGE
        entries = ledger.entries[page * _PAGE : (page + 1) * _PAGE]
        self._set(self._name("jobs", page), pack([entry.as_json() for entry in entries]))

    def _name(self, kind: str, index: int) -> str:
        return f"{_KEY}_{self._generation}_{kind}_{index}"

    def _get(self, key: str) -> Any:
        if self._store is None:
            return self._ti.xcom_pull(task_ids=self._ti.task_id, key=key, map_indexes=self._ti.map_index)
        try:
            return self._store.get(key)
        except Exception as err:
            raise ZillizUnavailable(
                f"The task state store cannot be read ({err}), so nothing was sent, and a retry is safe", was_sent=False
            ) from err

    def _set(self, key: str, value: Any) -> None:
        if self._store is None:
            self._ti.xcom_push(key=key, value=value)
            return
        try:
            self._store.set(key, value)
        except Exception as err:
            raise ZillizUnavailable(
                f"The task state store cannot be written ({err}), so no import was sent, and a retry is safe",
                was_sent=False,
            ) from err


class KeptListing:
    """The listing of a ``source`` in an Airflow variable, for retries before Airflow 3.3.

    :param names: of the task instance
    """

    def __init__(self, names: tuple[Any, ...], what: str) -> None:
        self._key = f"{_KEY}_{_digest('/'.join(map(str, names)) + what)}"

    def load(self) -> list[PlannedJob] | None:
        """Return the listing's jobs, None if there is none."""
        from airflow.providers.common.compat.sdk import Variable  # here, since most imports need no variable

        found = unpack(Variable.get(self._key, None))
        return [PlannedJob.from_json(job) for job in found] if isinstance(found, list) else None

    def save(self, jobs: tuple[PlannedJob, ...]) -> None:
        """Keep the listing."""
        from airflow.providers.common.compat.sdk import Variable

        text = pack([job.as_json() for job in jobs])
        Variable.set(self._key, text, description="The files of a ZillizImportDatasetOperator whose task has not ended")

    def delete(self) -> None:
        """Remove the listing once the task has succeeded."""
        from airflow.providers.common.compat.sdk import Variable

        try:
            Variable.delete(self._key)
        except Exception as err:  # noqa: BLE001 - the import is done, whatever remains of its listing
            log.warning("Airflow variable %s is not needed any more and cannot be deleted: %s", self._key, err)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:20]
