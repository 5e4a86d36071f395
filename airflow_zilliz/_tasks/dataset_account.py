"""Reports a dataset's jobs and files: the account in a line, the results, and the error that names missing files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow_zilliz._protocol.models import FileProgress, ImportProgress, ImportState
from airflow_zilliz._submit.dataset import named_paths
from airflow_zilliz._submit.ledger import Ledger, Stage
from airflow_zilliz._wait.checkpoint import duration
from airflow_zilliz._wait.job_results import Tally, job_of_result
from airflow_zilliz._wait.list_outcome import MAX_NAMED
from airflow_zilliz._wait.list_progress import counted
from airflow_zilliz._wait.texts import plural
from airflow_zilliz.exceptions import ZillizImportFailed, ZillizImportFailedNoRetry, ZillizSubmissionUnknown

#: XComs hold the paths of at most so many files; of more, the number of each job's files, the first and the last.
MAX_PATHS = 2_000
#: Lineage names at most so many files of a job.
MAX_LINEAGE_FILES = 100

_WORDS = {
    Stage.COMPLETED: "Completed",
    Stage.COMMITTED: "being committed",
    Stage.LOADED: "loaded and not committed",
    Stage.RUNNING: "running",
    Stage.FAILED: "Failed",
    Stage.IN_DOUBT: "in doubt",
    Stage.OPEN: "not sent, or not known to be running",
}


def account(ledger: Ledger, since: float | None = None, try_number: int | None = None) -> str:
    """Return how many jobs and files are at which stage, and the rows and bytes.

    :param since: seconds since this try began, for the rate and the time left
    :param try_number: this try, whose files alone count for the rate; None for all files
    """
    parts = []
    for stage, word in _WORDS.items():
        if indices := ledger.at(stage):
            verb = "is" if len(indices) == 1 else "are"
            parts.append(f"{_jobs_with_files(len(indices), len(ledger.paths(stage)))} {verb} {word}")
    files = sum(len(job.paths) for job in ledger.jobs)
    text = f"Of {_jobs_with_files(len(ledger.jobs), files)}: {', '.join(parts)}"
    rows = tally_of(ledger).rows
    if rows:
        text += f"; {counted(rows)} rows"
    if size := sum(ledger.jobs[index].size or 0 for index in ledger.at(Stage.COMPLETED, Stage.LOADED)):
        text += f", {size:,} bytes"
    loaded = ledger.at(Stage.COMPLETED, Stage.LOADED, Stage.COMMITTED)
    own = [index for index in loaded if try_number in (None, ledger.entries[index].try_number)]
    done = sum(len(ledger.jobs[index].paths) for index in own)
    if since and done:
        text += f", {done / since:.3g} files/s"
        if left := len(ledger.paths(Stage.OPEN, Stage.RUNNING)):
            text += f", about {duration(since * left / done)} left"
    return text


def _jobs_with_files(jobs: int, files: int) -> str:
    return f"{plural(jobs, 'job')} with {plural(files, 'file')}"


def result_of_entry(job: ImportProgress) -> dict[str, Any]:
    """Return what the ledger keeps of a Completed job."""
    return {**job.result(), "create_time": job.create_time.isoformat() if job.create_time else None}


def tally_of(ledger: Ledger) -> Tally:
    """Return the tally of the jobs that are Completed."""
    return Tally.of(completed_jobs(ledger))


def completed_jobs(ledger: Ledger) -> list[ImportProgress]:
    """Return the Completed jobs, with the first of their files."""
    found = []
    for index in ledger.at(Stage.COMPLETED):
        result = ledger.entries[index].result or {}
        job = job_of_result(result)
        if job is None:
            continue
        details = _details(ledger, index, ImportState.COMPLETED)
        found.append(replace(job, raw={"createTime": result.get("create_time")}, details=details))
    return found


def failed_jobs(ledger: Ledger) -> list[ImportProgress]:
    """Return the Failed jobs with their reasons, and with the first of their files."""
    found = []
    for index in ledger.at(Stage.FAILED):
        entry = ledger.entries[index]
        result = entry.result or {}
        found.append(
            ImportProgress(
                str(result.get("job_id") or ""),
                ImportState.FAILED,
                reason=entry.reason,
                collection_name=result.get("collection_name"),
                details=_details(ledger, index, ImportState.FAILED),
            )
        )
    return found


def _details(ledger: Ledger, index: int, state: ImportState) -> tuple[FileProgress, ...]:
    percent = 100 if state is ImportState.COMPLETED else 0
    return tuple(FileProgress(path, state, percent) for path in ledger.jobs[index].paths[:MAX_LINEAGE_FILES])


def jobs_of(ledger: Ledger) -> list[dict[str, Any]]:
    """Return each job's result and files, for XCom ``jobs``; of many files only the number, the first and the last."""
    is_large = sum(len(job.paths) for job in ledger.jobs) > MAX_PATHS
    found = []
    for job, entry in zip(ledger.jobs, ledger.entries, strict=True):
        paths = job.paths
        found.append(
            {
                **(_without_create_time(entry.result) if entry.result else {"job_id": entry.job_id}),
                "stage": entry.stage.value,
                **({"reason": entry.reason} if entry.reason else {}),
                "files": len(paths) if is_large else paths,
                **({"first": paths[0], "last": paths[-1]} if is_large else {}),
            }
        )
    return found


def _without_create_time(result: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != "create_time"}


def missing_of(ledger: Ledger) -> list[str]:
    """Return the files that are not in a Completed job, up to `MAX_PATHS` of them."""
    stages = [stage for stage in Stage if stage is not Stage.COMPLETED]
    return ledger.paths(*stages)[:MAX_PATHS]


def reason_of(ledger: Ledger, index: int) -> str:
    """Return the first files of a job, and why it is not Completed."""
    paths, entry = ledger.jobs[index].paths, ledger.entries[index]
    return f"({plural(len(paths), 'file')}: {named_paths(paths)}): {(entry.reason or _WORDS[entry.stage]).rstrip('.')}"


def failure_of(ledger: Ledger, *, retry_on_failure: bool) -> BaseException | None:
    """Return the error that names the files which were not imported, None if all were."""
    if len(ledger.at(Stage.COMPLETED)) == len(ledger.jobs):
        return None
    wrong = [index for index in range(len(ledger.jobs)) if ledger.entries[index].stage is not Stage.COMPLETED]
    reasons = [
        f"job {index + 1} {reason_of(ledger, index)}"
        for index in sorted(wrong, key=lambda index: ledger.entries[index].reason is None)[:MAX_NAMED]
    ]
    more = f"; and {plural(len(wrong) - MAX_NAMED, 'more job')}" if len(wrong) > MAX_NAMED else ""
    text = (
        f"{account(ledger)}. Not imported: {'; '.join(reasons)}{more}. XCom 'missing' names the files. Once the cause "
        "is fixed, clear the task: it imports what is missing, and nothing twice"
    )
    if ledger.at(Stage.IN_DOUBT):
        return ZillizSubmissionUnknown(text)
    failed = failed_jobs(ledger)
    cls = ZillizImportFailed if retry_on_failure else ZillizImportFailedNoRetry
    return cls(text, progress=failed[0] if failed else ImportProgress("", ImportState.FAILED), failed=failed)
