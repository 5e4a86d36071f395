"""The plan of a dataset's import: its files, split into as few jobs as a server's limits allow. No I/O, no clock.

The plan and the `Ledger` of its jobs together guarantee:

* Every file is in exactly one job of the plan. In the end that job is Completed, or the failure names its files.
* The same files make the same jobs, in whatever order they are given, so that each job keeps its idempotency key.
* No request is sent before the plan is stored, and none for a job before its record says so.
* A job that is Completed is never sent again. One that may have been started is sent again only as
  `airflow_zilliz._submit.submit_once` allows.
* Files that are added later never move files of a job that was sent into another job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_zilliz._protocol.object_path import identity_of, object_of
from airflow_zilliz.exceptions import ZillizConfigError

#: How many paths a message names.
MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class FileGroup:
    """One file, or the NumPy files of one group, which is never split.

    :param size: bytes, None for unknown
    """

    paths: tuple[str, ...]
    size: int | None = None


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """The files of one import job."""

    groups: tuple[FileGroup, ...]

    @property
    def paths(self) -> list[str]:
        """All of its files."""
        return [path for group in self.groups for path in group.paths]

    @property
    def size(self) -> int | None:
        """Its bytes, None where the size of one file is unknown."""
        sizes = [group.size for group in self.groups if group.size is not None]
        return sum(sizes) if len(sizes) == len(self.groups) else None

    def as_json(self) -> list[Any]:
        """Return the job in JSON types."""
        return [[list(group.paths), group.size] for group in self.groups]

    @classmethod
    def from_json(cls, value: object) -> PlannedJob:
        """Return what `as_json` returned.

        :raises ValueError: it is something else
        """
        groups = [_group_from_json(group) for group in value] if isinstance(value, list) else []
        if not groups:
            raise ValueError("a job without files")
        return cls(tuple(groups))


def _group_from_json(value: object) -> FileGroup:
    paths, size = value if isinstance(value, list) and len(value) == 2 else (None, None)
    are_paths = isinstance(paths, list) and paths and all(isinstance(path, str) and path for path in paths)
    if are_paths and (size is None or type(size) is int):
        return FileGroup(tuple(paths or ()), size)
    raise ValueError("a group without paths")


def groups_of_lists(groups: Iterable[Iterable[str]], sizes: Mapping[str, int] | None = None) -> list[FileGroup]:
    """Return the groups of an argument such as ``files``, each once, and URLs without their signatures.

    A plan is stored and shown, and the next try may sign the same objects again.

    :param sizes: bytes of each path, as far as known
    :raises ZillizConfigError: an object is named twice, so its rows would be loaded twice
    """
    known = sizes or {}
    found: list[FileGroup] = []
    for paths in dict.fromkeys(tuple(group) for group in groups):
        parts = [known[path] for path in paths if path in known]
        objects = tuple(map(object_of, paths))
        found.append(FileGroup(objects, sum(parts) if len(parts) == len(paths) else None))
    seen: set[str] = set()
    for path in (path for group in found for path in group.paths):
        if (identity := identity_of(path)) in seen:
            raise ZillizConfigError(
                f"file {path!r} is in two groups of files, or in two URLs that differ only in their query or notation, "
                "so its rows would be loaded twice"
            )
        seen.add(identity)
    return found


def split(groups: Iterable[FileGroup], max_files: int, max_bytes: int | None = None) -> list[PlannedJob]:
    """Split groups of files into jobs, in the order of their paths; a job is as large as the limits allow.

    A group that is larger than ``max_bytes`` has a job of its own.

    :param max_files: paths for each job, at least 1
    :param max_bytes: bytes for each job, at least 1, where sizes are known; None for no limit
    :raises ZillizConfigError: a group alone has more than ``max_files`` files
    """
    jobs: list[PlannedJob] = []
    current: list[FileGroup] = []
    files = size = 0
    for group in sorted(groups, key=lambda one: one.paths):
        if len(group.paths) > max_files:
            raise ZillizConfigError(
                f"the group of {group.paths[0]!r} has {len(group.paths)} files, which must be in one job, but "
                f"max_files_per_job is {max_files}"
            )
        more = group.size or 0
        is_full = files + len(group.paths) > max_files or (max_bytes is not None and size + more > max_bytes)
        if current and is_full:
            jobs.append(PlannedJob(tuple(current)))
            current, files, size = [], 0, 0
        current.append(group)
        files, size = files + len(group.paths), size + more
    return [*jobs, PlannedJob(tuple(current))] if current else jobs


def named_paths(paths: Sequence[str]) -> str:
    """Return the first of many paths, and the number of the others."""
    text = ", ".join(paths[:MAX_NAMED])
    return text if len(paths) <= MAX_NAMED else f"{text} and {len(paths) - MAX_NAMED:,} more"
