"""Sends one request for each of many jobs from a worker, and reports how many failed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from airflow_zilliz._wait.list_outcome import MAX_NAMED
from airflow_zilliz._wait.texts import plain, plural
from airflow_zilliz.exceptions import ZillizApiError, ZillizAuthError, ZillizError, ZillizUnavailable

#: How often in a row the server may ask for fewer requests, and the longest pause for that, in seconds.
MAX_REFUSALS, LONGEST_PAUSE = 8, 60.0

log = logging.getLogger(__name__)


def send_for_each(job_ids: Sequence[str], send: Callable[[str], None], done: str) -> None:
    """Send a request for each job: an error that concerns only one job does not stop the others.

    :param send: sends one job's request
    :param done: the participle for the message, such as "committed"
    :raises ZillizApiError: the server refused some; the message counts them, and names the first ones
    :raises ZillizError: the key was refused, or the server gave no usable response: nothing was sent for the others
    """
    refused: dict[str, ZillizApiError] = {}
    for number, job_id in enumerate(job_ids):
        try:
            _send_patiently(send, job_id)
        except ZillizAuthError as err:
            raise _with_counts(err, done, number - len(refused), refused, len(job_ids) - number) from None
        except ZillizApiError as err:
            refused[job_id] = err
        except ZillizError as err:
            raise _with_counts(err, done, number - len(refused), refused, len(job_ids) - number) from None
    if refused:
        first = next(iter(refused.values()))
        raise _with_counts(first, done, len(job_ids) - len(refused), refused, 0)
    log.info("%s %s", done, plural(len(job_ids), "import job"))


def _send_patiently(send: Callable[[str], None], job_id: str) -> None:
    for refusals in range(MAX_REFUSALS + 1):
        try:
            send(job_id)
        except ZillizUnavailable as err:
            if not err.is_throttling or refusals == MAX_REFUSALS:
                raise
            time.sleep(min(err.retry_after or 2.0**refusals, LONGEST_PAUSE))
        else:
            return


def _with_counts(
    err: ZillizError, done: str, number: int, refused: dict[str, ZillizApiError], left: int
) -> ZillizError:
    """Return an error that reports on all jobs; the request may be repeated for each of them."""
    text = f"{done} {number:,}, failed {len(refused):,}"
    if left:
        text += f", then stopped: {plain(err)}. The request was not sent for {left:,} other jobs"
    if refused:
        reasons = [f"job {job_id!r}: {plain(error)}" for job_id, error in list(refused.items())[:MAX_NAMED]]
        more = f"; and {len(refused) - MAX_NAMED:,} more" if len(refused) > MAX_NAMED else ""
        text += f": {'; '.join(reasons)}{more}" if not left else f". Failed: {'; '.join(reasons)}{more}"
    err.args = (f"{text}. It is safe to clear this task: the request changes nothing for jobs that are {done} already",)
    return err
