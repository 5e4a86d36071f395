"""Routes, limits and codes of the import API; "wire N" points at a paragraph of docs/wire.md, with the source."""

from __future__ import annotations

IMPORT_JOBS = "/v2/vectordb/jobs/import"
CREATE = f"{IMPORT_JOBS}/create"
DESCRIBE = f"{IMPORT_JOBS}/describe"
GET_PROGRESS = f"{IMPORT_JOBS}/get_progress"
GET_PROGRESS_CAMEL = f"{IMPORT_JOBS}/getProgress"
LIST = f"{IMPORT_JOBS}/list"
COMMIT = f"{IMPORT_JOBS}/commit"
ABORT = f"{IMPORT_JOBS}/abort"
CLUSTERS = "/v2/clusters"

MAX_BODY_BYTES = 10 * 1024 * 1024
LIST_PAGE_SIZE = 100  # the most on Zilliz Cloud (wire 5)
MAX_LIST_PAGES = 1000
MAX_RETRY_AFTER = 3600.0

# wire 4.2 to 4.6
SUCCESS_CODES = frozenset({0, 200})
NO_CLUSTER_RIGHT_CODES = frozenset({80020, 40022})
AUTH_CODES = frozenset({1800, 1400, 1401, 21119, 80001, 80002, *range(96012, 96017)}) | NO_CLUSTER_RIGHT_CODES
#: Transient errors: of a start, a restart or a fail-over, and what Milvus turns any gRPC failure into (wire 4.3).
TRANSIENT_CODES = frozenset({1, 2, 3, 4, 5, 8, 9, 12, 103, 106, 110, 500, 901, 1002, 1003, 1807, 10000, 10001, 65535})
#: Requests that can never succeed (wire 4.7). A code that is in neither set does not end a wait.
REFUSAL_CODES = frozenset(
    {
        *(100, 101, 112, 200, 800, 801, 802, 1100, 1101, 1102, 1801, 1802, 2100),
        *(21119, 40021, 40022, *range(80000, 80100), *range(90100, 90200), *range(96000, 96041)),
    }
)
THROTTLING_CODES = frozenset({8, 1807})
UNKNOWN_JOB_CODES = frozenset({96026})
UNKNOWN_PLACE_CODES = frozenset({100, 200, 800})  # a collection, partition or database, which may be called "job"
UNKNOWN_CLUSTER_CODES = frozenset({96018, 96036, 40021})
WRONG_REGION_CODES = frozenset({90102, 96001})
TRANSIENT_STATUSES = frozenset({408, 425, 429})

MAX_IDEMPOTENCY_KEY = 256  # wire 1.7

# Refusals of a create request before a job can have been made (wire 4.10). Anything else, for instance 65535 or
# 2101, may come after the job was made.
CREATE_REFUSAL_CODES = REFUSAL_CODES | {7, 8, 9, 1400, 1401, 1800, 1807}
CREATE_REFUSAL_STATUSES = frozenset({400, 401, 403})  # with the API's own JSON: a proxy's page says nothing
JOB_LIMIT_CODES = frozenset({2100, 2101})
JOB_LIMIT_TEXT = "number of jobs has reached the limit"


def is_printable_ascii(text: str) -> bool:
    """Return whether the text can be sent in a header."""
    return all(" " <= char <= "~" for char in text)


def is_idempotency_key(text: str) -> bool:
    """Return whether a server accepts the text as an Idempotency-Key (wire 1.7)."""
    return 0 < len(text) <= MAX_IDEMPOTENCY_KEY and is_printable_ascii(text)
