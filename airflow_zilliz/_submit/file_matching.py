"""Whether a job imports the requested files, judged by the file names that a server shows. No I/O.

Milvus shows each group of files as Go prints a list, ``[dir/a.npy dir/b.npy]``, and in 2.4 as protobuf text,
``id:4 paths:"dir/a.parquet"``: whole paths both, which can be compared. Zilliz Cloud shows names without their folders
(wire 2.1, 2.2). BulkWriter names every file ``<uuid>/1.parquet`` and partitioned data ``country=DE/data.parquet``, so
equal names without folders prove nothing: two jobs of different files look the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from urllib.parse import unquote

from airflow_zilliz._protocol.object_path import object_of

_PROTOBUF_PATH = re.compile(r'\bpaths:\s*"((?:[^"\\]|\\.)*)"')


class Match(Enum):
    """What a job's file names say about the requested files.

    ``SAME`` and ``OTHER`` are certain. ``SIMILAR`` is a job that may or may not be of these files, ``HIDDEN`` one that
    does not show its files yet.
    """

    SAME = auto()
    OTHER = auto()
    SIMILAR = auto()
    HIDDEN = auto()


def match_files(shown: Iterable[str | None], groups: Sequence[Sequence[str]], *, whole_paths: bool = True) -> Match:
    """Compare the file names of a job's details with the requested groups of files.

    :param shown: the file names as the server sent them; None and empty ones are not counted
    :param groups: paths or URLs; an inner list is one file, or the set of one group's NumPy files
    :param whole_paths: whether the server reads exactly the requested paths, as Milvus does with ``files``;
        Zilliz Cloud copies objects first, so that only their names can be compared, which proves nothing
    """
    texts = [text.strip() for text in shown if text and text.strip()]
    if not texts:
        return Match.HIDDEN
    printed = _Printed(groups)
    paths = [path for text in texts for path in printed.paths_of(text) or (_plain(text),)]
    asked = Counter(_plain(path) for group in groups for path in group)
    folders = tuple(path for path in asked if path.endswith("/"))
    if whole_paths and all(printed.is_whole(text) for text in texts):
        if any(path not in asked and not path.startswith(folders) for path in paths):
            return Match.OTHER
        return Match.SAME if Counter(paths) == asked else Match.SIMILAR
    # what is shown was decoded here, perhaps once more than the request
    names = {_name(name) for path in asked for name in (path, unquote(path))}
    if folders or all(_name(path) in names for path in paths):
        return Match.SIMILAR
    # a name with blanks cannot be distinguished from several names in a list as Go prints it
    return Match.SIMILAR if all(_name(_plain(text.strip("[]"))) in names for text in texts) else Match.OTHER


class _Printed:
    """Reads the texts that Milvus prints for groups of paths."""

    def __init__(self, groups: Sequence[Sequence[str]]) -> None:
        # a server may show percent-encoded paths unchanged or decoded
        forms = (_bare, _plain)
        self._groups = {
            " ".join(map(form, group)): [_plain(path) for path in group] for group in groups for form in forms
        }
        paths = sorted({form(path) for group in groups for path in group for form in forms}, key=len, reverse=True)
        # Go prints a list with blanks between its paths
        self._tile = re.compile("(?:" + "|".join(map(re.escape, paths)) + r")(?= |\Z)") if _hold_blanks(paths) else None

    def is_whole(self, text: str) -> bool:
        """Whether a text shows whole paths: Milvus's formats do, and so does a text without them that has a folder."""
        return self.paths_of(text) is not None or "/" in text

    def paths_of(self, text: str) -> list[str] | None:
        """Return the whole paths that a text shows, None for one that shows none."""
        is_list = text.startswith("[") and text.endswith("]")
        for inner in (text[1:-1], text[1:-1].strip()) if is_list else ():  # a path may begin or end with a blank
            if (group := self._groups.get(_bare(inner))) is not None:
                return group
            if self._tile is not None and (tiles := _tiles(self._tile, inner)) is not None:
                return tiles
        if found := _PROTOBUF_PATH.findall(text):
            return [_plain(_unescaped(path)) for path in found]
        return [_plain(word) for word in text[1:-1].split()] if is_list else None


def _tiles(tile: re.Pattern[str], text: str) -> list[str] | None:
    """Return the requested paths that a text consists of, for paths with blanks."""
    tiles: list[str] = []
    at = 0
    while at < len(text):
        at += 1 if text[at] == "/" else 0
        found = tile.match(text, at)
        if found is None:
            return None
        tiles.append(_plain(found.group()))
        at = found.end() + 1
    return tiles


def _hold_blanks(paths: Iterable[str]) -> bool:
    return any(character.isspace() for path in paths for character in path)


def _bare(path: str) -> str:
    """Return a path as Milvus prints it, except for the slash at its beginning in Milvus's REST page."""
    return object_of(path).lstrip("/")


def _plain(path: str) -> str:
    """Return a path in the form in which paths are compared: decoded, without a slash at its beginning."""
    return unquote(_bare(path))


def _name(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1].strip()


def _unescaped(text: str) -> str:
    """Return a string of protobuf's text format, whose escapes are those of C."""
    if "\\" not in text:
        return text
    return (
        text.encode("utf-8").decode("unicode_escape", "replace").encode("latin-1", "replace").decode("utf-8", "replace")
    )
