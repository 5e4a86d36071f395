"""The errors of an import job, and of the requests about it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from airflow_zilliz._protocol.constants import AUTH_CODES, THROTTLING_CODES

if TYPE_CHECKING:
    from airflow_zilliz._protocol.models import ImportProgress


class ZillizError(AirflowException):
    """Base of every error that this provider raises itself."""


class ZillizConfigError(ZillizError, ValueError):
    """A connection, an argument, or the two together cannot be used; nothing was sent."""


class ZillizApiError(ZillizError):
    """The server returned an error.

    :param code: the ``code`` of the response's body, None when it had none
    :param http_status: the HTTP status of the response
    :param request_id: the response's ``requestid`` header (Zilliz Cloud), for its support; None elsewhere
    :param from_api: whether the response was this API's own JSON, and not a page of something in front of it;
        by default whether it had a ``code``
    """

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        http_status: int | None = None,
        request_id: str | None = None,
        from_api: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.http_status = http_status
        self.request_id = request_id
        self.from_api = code is not None if from_api is None else from_api


class ZillizAuthError(ZillizApiError, AirflowFailException):
    """The key was refused, or has no right to the cluster. Airflow does not retry, since that cannot help."""

    @property
    def concerns_every_job(self) -> bool:
        """Whether the key or the cluster was refused, rather than the collection of one job."""
        return self.http_status == 401 or self.code in AUTH_CODES


class ZillizJobNotFound(ZillizApiError):
    """The server does not know the job id: a wrong id or cluster, or a job that ended long ago and was forgotten."""


class ZillizUnavailable(ZillizError):
    """No usable response: no connection, timeout, 408, 429, 5xx, a cut or non-JSON body. It is worth a retry.

    :param retry_after: the pause that the server asked for, in seconds; None when it did not ask
    :param code: the ``code`` of the response's body, None when there was none
    :param http_status: the HTTP status of the response, None when there was no response
    :param was_sent: False if the request cannot have reached the server
    :param from_api: whether there was a response of this API's own JSON; by default whether it had a ``code``
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        code: int | None = None,
        http_status: int | None = None,
        was_sent: bool = True,
        from_api: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.was_sent = was_sent
        self.retry_after = retry_after
        self.code = code
        self.http_status = http_status
        self.from_api = code is not None if from_api is None else from_api

    @property
    def is_throttling(self) -> bool:
        """Whether the server is healthy but asks for fewer requests."""
        return self.http_status == 429 or self.code in THROTTLING_CODES

    @property
    def was_not_taken(self) -> bool:
        """Whether the server cannot have begun to execute the request."""
        return not self.was_sent or self.is_throttling

    def with_retry_after(self, seconds: float) -> ZillizUnavailable:
        """Return the same error with the rest of its pause."""
        return type(self)(
            str(self),
            retry_after=seconds,
            code=self.code,
            http_status=self.http_status,
            was_sent=self.was_sent,
            from_api=self.from_api,
        )


class ZillizSubmissionUnknown(ZillizError, AirflowFailException):
    """It is not known whether an import was started. Not retried: a second job would load every row again."""


class ZillizIdempotencyKeyReused(ZillizConfigError, AirflowFailException):
    """An idempotency key stands for an import of other files, so that these were not imported. Not retried."""


class ZillizTooManyJobs(ZillizApiError):
    """The server runs as many import jobs as it may, and started none. It is worth a retry."""


class ZillizImportFailed(ZillizError):
    """The import job is Failed, or some of many are.

    :param progress: the job as the server last described it; of many the first failed one
    :param failed: all failed jobs of many
    """

    def __init__(self, message: str, *, progress: ImportProgress, failed: Sequence[ImportProgress] = ()) -> None:
        super().__init__(message)
        self.progress = progress
        self.failed = tuple(failed) or (progress,)

    def __reduce__(self) -> tuple[Any, ...]:  # exceptions are pickled by their positional arguments alone
        return partial(type(self), progress=self.progress, failed=self.failed), self.args


class ZillizImportFailedNoRetry(ZillizImportFailed, AirflowFailException):
    """A `ZillizImportFailed` that Airflow does not retry, since a Failed job never completes."""
