"""The differences between the Milvus releases that the local server can behave like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_HOUR = 3600.0


@dataclass(frozen=True)
class MilvusVersion:
    """How the import API of one Milvus release line behaves, as of its newest known release.

    :param name: such as ``2.6``
    :param describe_routed: whether ``describe`` exists; without it there is only ``get_progress`` (wire 1.1)
    :param success_code: ``code`` of a success (wire 1.9)
    :param has_create_time: whether a description has ``createTime`` (wire 2.1)
    :param idempotency_keys: whether ``create`` honours the header ``Idempotency-Key`` (wire 1.7)
    :param two_phases: whether ``commit``, ``abort`` and the option ``auto_commit`` exist (wire 3.2); without them the
        option is ignored
    :param commits_completed_jobs: whether ``commit`` of a Completed ordinary job is a success; others refuse it
    :param skips_unknown_fields: whether JSON and CSV rows may have unknown fields if the collection has no dynamic
        field; they are skipped. Other versions fail the job
    :param fixed_size_lists: whether a Parquet column of vectors or ARRAYs may be a ``fixed_size_list``
    :param unknown_job_code: ``code`` for a job id that the server does not know (wire 4.2)
    :param invalid_job_id_code: ``code`` of ``describe`` for a job id that is not an int64 (wire 4.2)
    :param retention: seconds that an ended job is kept (wire 3.5)
    """

    name: str
    describe_routed: bool
    success_code: int
    has_create_time: bool
    idempotency_keys: bool
    two_phases: bool
    commits_completed_jobs: bool
    skips_unknown_fields: bool
    fixed_size_lists: bool
    unknown_job_code: int
    invalid_job_id_code: int
    retention: float


# 2.4 is 2.4.6 to 2.4.13: 2.4.14 brought `describe`, and 2.4.0 to 2.4.5 differ from it only in the success code 200.
_V2_4 = MilvusVersion(
    name="2.4",
    describe_routed=False,
    success_code=0,
    has_create_time=False,
    idempotency_keys=False,
    two_phases=False,
    commits_completed_jobs=False,
    skips_unknown_fields=False,
    fixed_size_lists=False,
    unknown_job_code=2100,
    invalid_job_id_code=2100,
    retention=3 * _HOUR,
)
_V2_5 = MilvusVersion(
    name="2.5",
    describe_routed=True,
    success_code=0,
    has_create_time=False,
    idempotency_keys=False,
    two_phases=False,
    commits_completed_jobs=False,
    skips_unknown_fields=False,
    fixed_size_lists=False,
    unknown_job_code=2100,
    invalid_job_id_code=2100,
    retention=3 * _HOUR,
)
# 2.6 is 2.6.24 and newer, 3.0 is 3.0.2 and newer: those releases brought idempotency keys and the longer retention.
# Two phases are sure from 3.0 on; the branch 2.6 was read to have them, and no release of it is known to (wire 3.2).
_V2_6 = MilvusVersion(
    name="2.6",
    describe_routed=True,
    success_code=0,
    has_create_time=True,
    idempotency_keys=True,
    two_phases=True,
    commits_completed_jobs=False,
    skips_unknown_fields=True,
    fixed_size_lists=True,
    unknown_job_code=2101,
    invalid_job_id_code=1100,
    retention=48 * _HOUR,
)
_V3_0 = MilvusVersion(
    name="3.0",
    describe_routed=True,
    success_code=0,
    has_create_time=True,
    idempotency_keys=True,
    two_phases=True,
    commits_completed_jobs=True,
    skips_unknown_fields=True,
    fixed_size_lists=True,
    unknown_job_code=2101,
    invalid_job_id_code=1100,
    retention=48 * _HOUR,
)

#: By name, oldest first.
VERSIONS: Mapping[str, MilvusVersion] = MappingProxyType({v.name: v for v in (_V2_4, _V2_5, _V2_6, _V3_0)})
NEWEST = _V3_0
