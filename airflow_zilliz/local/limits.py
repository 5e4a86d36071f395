"""The limits of the local server, which are those of Milvus and Zilliz Cloud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_GB = 2**30


@dataclass(frozen=True)
class Limits:
    """The limits of one request, and of all jobs together.

    :param max_files: inner lists of a request
    :param max_jobs: jobs that have not ended, of the whole server on Milvus, of a collection on Zilliz Cloud
    :param max_file_size: bytes of one file; a larger one fails the job
    :param max_request_size: bytes of all files of one request; more fail the job. None for no limit
    """

    max_files: int
    max_jobs: int
    max_file_size: int
    max_request_size: int | None

    def too_large(self, sizes: Sequence[int]) -> str | None:
        """Return why files of these sizes, in bytes, cannot be imported; None if they can."""
        largest, total = max(sizes, default=0), sum(sizes)
        text = "The import file size has reached the maximum limit allowed for importing"
        if largest > self.max_file_size:
            return f"{text}, fileSize={largest}, maxSize={self.max_file_size}"
        if self.max_request_size is not None and total > self.max_request_size:
            return f"{text}, total fileSize={total}, maxSize={self.max_request_size}"
        return None


MILVUS_LIMITS = Limits(max_files=1024, max_jobs=1024, max_file_size=16 * _GB, max_request_size=None)
# of a Dedicated cluster
CLOUD_LIMITS = Limits(max_files=1000, max_jobs=10_000, max_file_size=10 * _GB, max_request_size=1024 * _GB)
