"""Runs import jobs: checks every row first, then inserts, so that a bad file loads nothing."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path

from airflow_zilliz.local.doubled_rows import DoubledRows
from airflow_zilliz.local.engine import Engine, EngineMissing
from airflow_zilliz.local.file_readers import read_rows
from airflow_zilliz.local.import_errors import ImportFileError
from airflow_zilliz.local.import_paths import expand
from airflow_zilliz.local.jobs import FileEntry, Job, JobStore
from airflow_zilliz.local.limits import MILVUS_LIMITS, Limits
from airflow_zilliz.local.row_validation import Row, Schema
from airflow_zilliz.local.versions import NEWEST, VERSIONS

log = logging.getLogger(__name__)

BATCH_ROWS = 2000
JOBS_AT_ONCE = 4


class _Stopped(Exception):
    """The server stops; the job stays as it is, and the next server finds it interrupted."""


class Importer:
    """Runs jobs in threads.

    :param root: the folder to read files from
    :param staging: where the files of a two-phase import wait for their commit
    :param tick: seconds between a job's phases; a real Milvus checks for the next one every 2 s
    """

    def __init__(self, store: JobStore, engine: Engine, root: Path, staging: Path, tick: float = 0.0) -> None:
        self._store = store
        self._engine = engine
        self._root = root
        self._staging = staging
        self._tick = tick
        #: How large a job's files may be.
        self.limits: Callable[[], Limits] = lambda: MILVUS_LIMITS
        self._stopping = threading.Event()
        self._threads = ThreadPoolExecutor(max_workers=JOBS_AT_ONCE, thread_name_prefix="importer")

    def start(self) -> None:
        """Start to run jobs, including those that an earlier server left waiting."""
        for folder in self._staging.iterdir() if self._staging.is_dir() else ():
            job = self._store.get(folder.name)
            if job is None or job.state != "Uncommitted":  # an earlier server died while it committed
                shutil.rmtree(folder, ignore_errors=True)
        for job in sorted(self._store.all(), key=lambda job: job.created):
            if job.state == "Pending" and not job.phases:
                self.submit(job)

    def submit(self, job: Job) -> None:
        """Queue a job, to be read from the start or to be committed."""
        self._threads.submit(self._work, job.id)

    def abort(self, job: Job) -> None:
        """Fail an Uncommitted job and drop what it staged."""
        self._store.put(job.failed("aborted by user"))
        self._unstage(job)

    def close(self) -> None:
        """Interrupt the running jobs."""
        self._stopping.set()
        self._threads.shutdown(cancel_futures=True)

    def _pause(self) -> None:
        if self._stopping.wait(self._tick):
            raise _Stopped

    def _work(self, job_id: str) -> None:
        job = self._store.get(job_id)
        if job is None:
            return
        try:
            self._pause()
            if job.state == "Committing":
                self._insert(job, self._staged(job))
            else:
                self._prepare(job)
        except _Stopped:
            return
        except (ImportFileError, EngineMissing) as err:
            self._fail(job_id, str(err))
        except Exception as err:
            log.exception("import job %s", job_id)
            self._fail(job_id, f"{type(err).__name__}: {err}")

    def _fail(self, job_id: str, reason: str) -> None:
        if job := self._store.get(job_id):
            self._store.put(job.failed(reason))
            self._unstage(job)

    def _prepare(self, job: Job) -> None:
        """Check all rows and count them; then insert them, or stage them for a commit."""
        job = self._store.put(replace(job, state="Importing", progress=10))
        schema = self._engine.schema(job.collection, job.db_name)
        groups = self._groups(job)
        self._pause()
        total = 0
        for index, files in enumerate(groups):
            rows = 0
            try:
                for batch in self._batches(job, schema, files):
                    self._check_stop()
                    rows += len(batch)
            except ImportFileError as err:
                job = self._with_file(job, index, reason=str(err), state="Failed")
                raise
            total += rows
            job = self._with_file(job, index, rows=rows)
            job = self._store.put(replace(job, progress=10 + 30 * (index + 1) // len(groups), total_rows=total))
        self._pause()
        if job.commits_itself:
            self._insert(job, groups)
        else:
            self._stage(job, groups)
            self._store.put(replace(job, state="Uncommitted", progress=99, imported_rows=total))

    def _insert(self, job: Job, groups: list[tuple[Path, ...]]) -> None:
        with self._engine.writing(job.collection, job.db_name):
            self._check_stop()
            job = self._insert_alone(job, groups)
        if job.state != "Committing":
            for progress in (80, 90):
                job = self._store.put(replace(job, progress=progress))
                self._pause()
        self._store.put(replace(job, state="Completed", progress=100, completed=time.time()))
        self._unstage(job)

    def _insert_alone(self, job: Job, groups: list[tuple[Path, ...]]) -> Job:
        """Insert while no other job inserts into that collection, so that doubled rows can be counted."""
        schema = self._engine.schema(job.collection, job.db_name)
        doubled = DoubledRows(self._engine, job.collection, job.db_name, schema.primary)
        done = 0
        job = replace(job, imported_rows=0)
        for index, files in enumerate(groups):
            for batch in self._batches(job, schema, files):
                self._check_stop()
                doubled.add(batch)
                try:
                    done += self._engine.insert(job.collection, batch, job.partition, job.db_name)
                except ImportFileError as err:
                    raise ImportFileError(f"{err}; {done} rows had been inserted before") from None
                progress = job.progress if job.state == "Committing" else 40 + 30 * done // max(1, job.total_rows)
                job = self._with_file(job, index, imported=job.files[index].imported + len(batch), state="InProgress")
                job = self._store.put(replace(job, progress=progress, imported_rows=done))
            job = self._with_file(job, index, state="Completed")
        if total := doubled.total():
            job = self._warn_of_doubled_rows(job, total)
        return self._store.put(replace(job, imported_rows=done))

    def _warn_of_doubled_rows(self, job: Job, doubled: int) -> Job:
        """Warn of keys that were written twice: Milvus keeps both rows of a key, Milvus Lite the last one."""
        text = (
            f"{doubled} of the job's rows have a primary key that another row has: Milvus would keep both rows,"
            " here the later one replaced the earlier one"
        )
        log.warning("import job %s into collection %s: %s", job.id, job.collection, text)
        return self._store.put(replace(job, files=tuple(replace(entry, reason=text) for entry in job.files)))

    def _batches(self, job: Job, schema: Schema, files: tuple[Path, ...]) -> Iterator[list[Row]]:
        """Yield the rows of a file, or of a set of files, a bounded number at a time."""
        rows = read_rows(files, schema, job.options, VERSIONS.get(job.version, NEWEST))
        while batch := list(islice(rows, schema.rows_at_once(BATCH_ROWS))):
            yield batch

    def _check_stop(self) -> None:
        if self._stopping.is_set():
            raise _Stopped

    def _groups(self, job: Job) -> list[tuple[Path, ...]]:
        volume = job.options.get("volumeName", "")
        groups = [files for group in job.groups for files in expand(self._root, group, volume)]
        entries = tuple(
            FileEntry(" ".join(path.name for path in files), size=sum(path.stat().st_size for path in files))
            for files in groups
        )
        self._store.put(replace(job, state="Importing", progress=10, files=entries))
        if reason := self.limits().too_large([path.stat().st_size for files in groups for path in files]):
            raise ImportFileError(reason)
        return groups

    def _with_file(self, job: Job, index: int, **changes: str | int) -> Job:
        files = (self._store.get(job.id) or job).files
        changed = replace(files[index], **changes)  # type: ignore[arg-type] # the fields are int and str
        return self._store.put(replace(job, files=(*files[:index], changed, *files[index + 1 :])))

    def _stage(self, job: Job, groups: list[tuple[Path, ...]]) -> None:
        for index, files in enumerate(groups):
            folder = self._staging / job.id / f"{index:06}"
            folder.mkdir(parents=True, exist_ok=True)
            for path in files:
                shutil.copy2(path, folder)

    def _staged(self, job: Job) -> list[tuple[Path, ...]]:
        return [tuple(sorted(folder.iterdir())) for folder in sorted((self._staging / job.id).iterdir())]

    def _unstage(self, job: Job) -> None:
        shutil.rmtree(self._staging / job.id, ignore_errors=True)
