"""The import that a request describes, and the reasons to refuse it before a job is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from airflow_zilliz.local.engine import DEFAULT_DATABASE
from airflow_zilliz.local.go_values import extension, is_duration
from airflow_zilliz.local.limits import Limits
from airflow_zilliz.local.refusals import Refusal, import_failed, missing, not_json
from airflow_zilliz.local.request_body import RequestBody, writable
from airflow_zilliz.local.versions import MilvusVersion

NUMPY = ".npy"
# one file in each inner list
_SINGLE_FILES = {".json": "JSON", ".jsonl": "JSON", ".ndjson": "JSON", ".csv": "CSV", ".parquet": "Parquet"}
_CLOUD_SOURCES = ("objectUrls", "dataPaths", "objectUrl", "files")


@dataclass(frozen=True)
class CreateRequest:
    """A requested import.

    :param groups: the inner lists; each is one file, or one set of NumPy files
    """

    database: str
    collection: str
    partition: str
    groups: tuple[tuple[str, ...], ...]
    options: Mapping[str, str]

    @property
    def is_backup(self) -> bool:
        """Whether the files are those of a backup, which the engine cannot read."""
        return any(self.options.get(name, "").lower() == "true" for name in ("backup", "l0_import"))


def milvus_request(body: RequestBody, headers: Mapping[str, str], version: MilvusVersion) -> CreateRequest:
    """Return the import that the body of a request to Milvus describes.

    :raises Refusal: 1801 for a wrong type, 1802 for a missing field
    """
    groups = body.lists("files")
    request = _request(body, headers, groups or (), version)
    if groups is None:  # types are checked first
        raise missing("files")
    return request


def cloud_request(body: RequestBody, headers: Mapping[str, str], version: MilvusVersion) -> CreateRequest:
    """Return the import that the body of a request to Zilliz Cloud describes; its files are in one of several fields.

    :raises Refusal: 1801 for a wrong type, 1802 for a missing field
    """
    source = next((name for name in _CLOUD_SOURCES if body.get(name) not in (None, "", [])), "files")
    groups = ((body.text(source),),) if source == "objectUrl" else body.lists(source) or ()
    request = _request(body, headers, groups, version)
    if volume := body.text("volumeName"):
        return replace(request, options={**request.options, "volumeName": volume})
    return request


def _request(
    body: RequestBody, headers: Mapping[str, str], groups: Sequence[tuple[str, ...]], version: MilvusVersion
) -> CreateRequest:
    options = body.options()
    if "auto_commit" in options:
        options = _with_auto_commit(options, version)
    request = CreateRequest(
        database=database_of(body, headers),
        collection=body.text("collectionName"),
        partition=body.text("partitionName"),
        groups=tuple(group for group in groups if group),
        options=options,
    )
    if not request.collection:
        raise missing("collectionName")
    return request


def database_of(body: RequestBody, headers: Mapping[str, str]) -> str:
    """Return the database of a request, from its body or else from a header.

    :raises Refusal: 1801 for a wrong type
    """
    return body.text("dbName") or writable(headers.get("DB-Name", "")) or DEFAULT_DATABASE


def _with_auto_commit(options: dict[str, str], version: MilvusVersion) -> dict[str, str]:
    """Return options with ``auto_commit`` in lower case, or without it if the server does not know it."""
    others = {name: value for name, value in options.items() if name != "auto_commit"}
    if not version.two_phases:
        return others
    if (value := options["auto_commit"].lower()) not in ("true", "false"):
        raise not_json('options.auto_commit must be one of "true" or "false"')
    return {**others, "auto_commit": value}


def check_files(request: CreateRequest, limits: Limits, *, kinds: bool) -> None:
    """Refuse files before a job is made.

    :param kinds: whether names must show the kind of a file, as on Milvus; Zilliz Cloud accepts folders
    :raises Refusal: 1100 for no files, 2100 for too many or for a wrong kind
    """
    if not request.groups:
        raise Refusal(1100, "import request is empty: invalid parameter")
    if len(request.groups) > limits.max_files:
        text = f"The max number of import files should not exceed {limits.max_files}, but got {len(request.groups)}"
        raise import_failed(text)
    if kinds and not request.is_backup:
        for group in request.groups:
            _check_kind(group)


def _check_kind(group: Sequence[str]) -> None:
    first = extension(group[0])
    for path in group[1:]:
        if extension(path) != first:
            raise import_failed(f"inconsistency in file types, ({group[0]}) vs ({path})")
    if first in _SINGLE_FILES:
        if len(group) > 1:
            raise import_failed(f"for {_SINGLE_FILES[first]} import, accepts only one file")
    elif first != NUMPY:
        raise import_failed(f"unexpected file type, files=[{' '.join(group)}]")


def check_timeout(request: CreateRequest) -> None:
    """Refuse a timeout that is not a Go duration.

    :raises Refusal: 2100
    """
    timeout = request.options.get("timeout")
    if timeout is not None and not is_duration(timeout):
        raise import_failed(f'parse timeout failed, err=time: invalid duration "{timeout}"')


def too_many_jobs() -> Refusal:
    """Return the refusal of a job while too many jobs have not ended; nothing was started."""
    return import_failed(
        "The number of jobs has reached the limit, please try again later. If your request is set to only import a "
        "single file, please consider importing multiple files in one request for better efficiency."
    )
