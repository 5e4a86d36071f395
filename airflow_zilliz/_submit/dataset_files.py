"""Decides which objects of a storage are a dataset's files: a pattern, skipped objects, NumPy groups. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from airflow_zilliz._submit.dataset import FileGroup
from airflow_zilliz.exceptions import ZillizConfigError

_SPECIAL = re.compile(r"[*?\[]")
_SOURCE_WANTED = "the URL of a folder, a file or a pattern, such as 's3://aws_default@lake/books/**/*.parquet'"


@dataclass(frozen=True)
class Source:
    """Where a dataset's files are.

    :param root: the URL of the folder to list, or of the one file, with the Airflow connection in it
    :param pattern: matches their paths below the root; empty for all
    """

    root: str
    pattern: str

    def matches(self, path: str) -> bool:
        """Whether the pattern matches a path below the root."""
        return not self.pattern or re.fullmatch(_regex_of(self.pattern), path) is not None


def parse_source(text: str) -> Source:
    """Return the folder and the pattern of a source.

    ``**`` matches any folders, ``*`` and ``?`` characters within one name, ``[...]`` one of the given characters.

    :raises ZillizConfigError: it is not a URL, or its scheme or bucket is a pattern
    """
    scheme, mark, rest = text.strip().partition("://")
    place, slash, path = rest.partition("/")
    if not mark or not scheme or not (place or path) or _SPECIAL.search(scheme + place):
        raise ZillizConfigError(f"source must be {_SOURCE_WANTED}, not {text!r}")
    if "?" in path and "=" in path.partition("?")[2]:
        raise ZillizConfigError(
            "source must not be a signed URL: give the Airflow connection of the storage instead, as in "
            "'s3://aws_default@lake/books'"
        )
    names = path.split("/")
    fixed = next((number for number, name in enumerate(names) if _SPECIAL.search(name)), len(names))
    pattern = "/".join(names[fixed:])
    folder = "/".join(names[:fixed]).rstrip("/")
    try:
        re.compile(_regex_of(pattern))
    except re.error as err:
        raise ZillizConfigError(f"source {text!r} has a pattern that cannot be read: {err}") from None
    return Source(f"{scheme}://{place}{slash}{folder}", pattern)


def _regex_of(pattern: str) -> str:
    parts: list[str] = []
    names = pattern.split("/")
    for number, name in enumerate(names):
        is_last = number == len(names) - 1
        if name == "**":
            parts.append(".*" if is_last else "(?:[^/]+/)*")
        else:
            parts.append(_name_regex(name) + ("" if is_last else "/"))
    return "".join(parts)


def _name_regex(name: str) -> str:
    return re.sub(
        r"\*+|\?|\[[^\]]+\]|.",
        lambda match: _character(match.group()),
        name,
        flags=re.DOTALL,
    )


def _character(text: str) -> str:
    if text.startswith("*"):
        return "[^/]*"
    if text == "?":
        return "[^/]"
    if len(text) > 1:
        inside = text[1:-1].replace("\\", r"\\").replace("[", r"\[")
        return f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"
    return re.escape(text)


@dataclass(frozen=True)
class Found:
    """One object below the root.

    :param path: relative to it
    :param name: the path or URL that the server expects
    :param size: bytes, None for unknown
    """

    path: str
    name: str
    size: int | None


@dataclass(frozen=True)
class Listing:
    """A dataset's files.

    :param groups: each a file, or the NumPy files of one folder, in order
    :param hidden: how many were skipped since a name in their path begins with ``.`` or ``_``
    :param empty: how many were skipped since they are empty
    """

    groups: tuple[FileGroup, ...]
    hidden: int = 0
    empty: int = 0


def listing_of(found: Iterable[Found], source: Source) -> Listing:
    """Return the dataset's files among the objects below its root.

    :raises ZillizConfigError: two of them have the same name for the server
    """
    matching = sorted((one for one in found if source.matches(one.path)), key=lambda one: one.path)
    shown = [one for one in matching if not _is_hidden(one.path)]
    filled = [one for one in shown if one.size != 0]
    _check_names(filled)
    groups: dict[str, list[Found]] = {}
    for one in filled:
        folder, _, name = one.path.rpartition("/")
        # no file has this name
        groups.setdefault(f"{folder}/*.npy" if name.endswith(".npy") else one.path, []).append(one)
    return Listing(
        tuple(_group(members) for members in groups.values()), len(matching) - len(shown), len(shown) - len(filled)
    )


def _check_names(found: Iterable[Found]) -> None:
    paths: dict[str, str] = {}
    for one in found:
        if (other := paths.setdefault(one.name, one.path)) != one.path:
            raise ZillizConfigError(
                f"to_path returned {one.name!r} for both {other!r} and {one.path!r}, so one of them would be loaded "
                "twice, and the other not at all"
            )


def _group(members: list[Found]) -> FileGroup:
    sizes = [one.size for one in members if one.size is not None]
    return FileGroup(tuple(one.name for one in members), sum(sizes) if len(sizes) == len(members) else None)


def _is_hidden(path: str) -> bool:
    return any(name.startswith((".", "_")) for name in path.split("/"))
