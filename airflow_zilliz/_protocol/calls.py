"""The import API without I/O: the requests of each call, and what its response means.

"wire N" points at a paragraph of docs/wire.md, which says where the fact was read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_zilliz._protocol.constants import (
    ABORT,
    COMMIT,
    DESCRIBE,
    GET_PROGRESS,
    GET_PROGRESS_CAMEL,
    LIST,
    LIST_PAGE_SIZE,
    MAX_LIST_PAGES,
)
from airflow_zilliz._protocol.job_parsing import job_id_of, parse_job
from airflow_zilliz._protocol.models import ImportProgress
from airflow_zilliz._protocol.request import Exchange, Request
from airflow_zilliz._protocol.responses import Response, acknowledgement, excerpt, number_of, payload, raise_unrouted
from airflow_zilliz._protocol.scrubbing import PATTERNS_ONLY, Scrubber
from airflow_zilliz._protocol.target import Target, database_header
from airflow_zilliz.exceptions import ZillizApiError, ZillizUnavailable


def describe(job_id: str, target: Target, *, known_path: str | None = None) -> Exchange[tuple[ImportProgress, str]]:
    """Describe one job.

    :param known_path: the route that this server is known to have
    :returns: the job, and the route that the server has, to be remembered
    :raises ZillizError: one of its subclasses, see `airflow_zilliz._protocol.responses.raise_for_error`
    """
    body = {"jobId": job_id, **target.ids()}
    paths = [DESCRIBE, GET_PROGRESS, GET_PROGRESS_CAMEL]
    paths.sort(key=lambda path: path != known_path)
    unrouted = []
    for path in paths:
        response = yield Request(path, body, database_header(target))
        if not response.is_unrouted:
            return _job(response, job_id), path
        unrouted.append(response)
    raise_unrouted(*unrouted)


def create(request: Request) -> Exchange[str]:
    """Send a create request, see `airflow_zilliz._protocol.import_request`, and return the job's id.

    :raises ZillizError: one of its subclasses, see `airflow_zilliz._protocol.responses.raise_for_error`
    """
    response = yield request
    data = payload(response)
    if isinstance(data, list) and len(data) == 1:  # as for descriptions; Milvus of early 2024 had an array of ids
        data = data[0]
    job_id = job_id_of(data if isinstance(data, dict) else {"jobId": data})
    if job_id is None or not job_id.isascii() or job_id[:1] in ("{", "[") or " " in job_id:
        raise ZillizUnavailable(
            f"{response.source} accepted the import but responded without a job id: {excerpt(response)}", from_api=True
        )
    return job_id


def commit(job_id: str, target: Target) -> Exchange[None]:
    """Make the rows of an Uncommitted job visible; repeating it has no further effect (wire 3.2).

    :raises ZillizError: one of its subclasses, see `airflow_zilliz._protocol.responses.raise_for_error`
    """
    yield from _decide(COMMIT, job_id, target)


def abort(job_id: str, target: Target) -> Exchange[None]:
    """Drop a job that was created with ``auto_commit`` false; repeating it has no further effect (wire 3.2).

    :raises ZillizError: one of its subclasses, see `airflow_zilliz._protocol.responses.raise_for_error`
    """
    yield from _decide(ABORT, job_id, target)


def _decide(path: str, job_id: str, target: Target) -> Exchange[None]:
    response = yield Request(path, {"jobId": job_id, **target.ids()}, database_header(target))
    if response.is_server_without_route:
        raise ZillizApiError(
            f"{response.source} does not exist on this server: it has no two-phase imports "
            "(Milvus has them from 3.0 on)",
            http_status=response.status,
            from_api=False,
        )
    acknowledgement(response)


@dataclass(frozen=True)
class Page:
    """One page of a job list.

    :param records: its jobs by their ids, unparsed
    :param full: whether it has as many records as a page can have, so that another page may follow
    :param count: how many jobs the server says the list has; on some servers, how many the page has
    """

    records: Mapping[str, Mapping[str, Any]]
    full: bool
    scrub: Scrubber = PATTERNS_ONLY
    count: int = 0

    def jobs(self) -> Iterator[ImportProgress]:
        """Yield the page's jobs."""
        return (job.scrubbed(self.scrub) for job in map(parse_job, self.records.values()) if job is not None)

    def news(self, known: Mapping[str, Mapping[str, Any] | None]) -> Iterator[tuple[str, ImportProgress | None]]:
        """Yield the id of each job that is in ``known``, with the job, or with None if its record has not changed."""
        # `&` goes through the shorter of the two
        for job_id in known.keys() & self.records.keys():
            record = self.records[job_id]
            if record == known[job_id]:
                yield job_id, None
            elif (job := parse_job(record)) is not None:
                yield job_id, job.scrubbed(self.scrub)

    def is_of(self, collection_name: str) -> bool:
        """Whether it has only jobs of this collection."""
        return all(record.get("collectionName") == collection_name for record in self.records.values())


def list_page(
    target: Target, page: int = 1, *, collection_name: str | None = None, page_size: int = LIST_PAGE_SIZE
) -> Exchange[Page]:
    """Request one page of the job list.

    :param page: counted from 1; Milvus ignores it and sends all jobs at once (wire 5)
    :raises ZillizError: one of its subclasses, see `airflow_zilliz._protocol.responses.raise_for_error`
    """
    body = {
        "collectionName": collection_name,
        "dbName": target.db_name,
        **target.ids(),
        "pageSize": page_size,
        "currentPage": page,
    }
    response = yield Request(LIST, {k: v for k, v in body.items() if v is not None}, database_header(target))
    records, sent_page_size, count = _records(response)
    ids = ((job_id_of(record), record) for record in records)
    by_id = {job_id: record for job_id, record in ids if job_id is not None}
    return Page(by_id, len(records) == (sent_page_size or page_size), response.scrub, count or 0)


@dataclass
class ListWalk:
    """A job list, read page by page in the server's order.

    It ends at a page that is short, empty, or holds nothing new: ``count`` may be the total or the page's, and
    Milvus ignores paging and sends all jobs at once (wire 5).
    """

    target: Target
    collection_name: str | None = None
    page_size: int = LIST_PAGE_SIZE
    #: whether the last page was read
    is_over: bool = field(default=False, init=False)
    _number: int = field(default=0, init=False)
    _known_ids: set[str] = field(default_factory=set, init=False)

    def next_page(self) -> Exchange[list[ImportProgress]]:
        """Request the next page, and return its jobs except those of earlier pages.

        :raises ZillizError: one of its subclasses, see `airflow_zilliz._protocol.responses.raise_for_error`
        """
        self._number += 1
        page = yield from list_page(
            self.target, self._number, collection_name=self.collection_name, page_size=self.page_size
        )
        jobs = [job for job in page.jobs() if job.job_id not in self._known_ids]
        self.is_over = not page.full or page.records.keys() <= self._known_ids or self._number == MAX_LIST_PAGES
        self._known_ids.update(page.records)
        return jobs


def _job(response: Response, job_id: str) -> ImportProgress:
    data = payload(response)
    if isinstance(data, list) and len(data) == 1:  # the Cloud page's schema calls it an array (wire 1.4)
        data = data[0]
    job = parse_job(data, job_id) if isinstance(data, dict) else None
    if job is None:
        raise ZillizUnavailable(
            f"{response.source} responded without the job's state: {excerpt(response)}", from_api=True
        )
    if job.job_id != job_id:
        raise ZillizUnavailable(
            f"{response.source} was asked for job {job_id!r} but responded with {job.job_id[:100]!r}", from_api=True
        )
    return job.scrubbed(response.scrub)


def _records(response: Response) -> tuple[list[dict[str, Any]], int | None, int | None]:
    """Return a page's records, the page size that the server says it used, and its count."""
    data = payload(response)
    # Milvus and Cloud v2 say records, v1's example says tasks, an empty list may come as null (wire 1.8, 5)
    fields = data if isinstance(data, dict) else {"records": data}
    records: Any = next((fields[key] for key in ("records", "tasks") if key in fields), None if not fields else False)
    if records is not None and not isinstance(records, list):
        raise ZillizUnavailable(
            f"{response.source} responded without a list of jobs: {excerpt(response)}", from_api=True
        )
    found = [record for record in records or () if isinstance(record, dict)]
    return found, number_of(fields.get("pageSize")), number_of(fields.get("count"))
