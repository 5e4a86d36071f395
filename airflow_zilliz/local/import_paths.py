"""The files of an import, never outside the data folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from airflow_zilliz.local.import_errors import ImportFileError

SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".parquet", ".npy")


def local_path(root: Path, name: str, volume: str = "") -> Path:
    """Return the file below ``root`` that a path or an object URL names.

    ``s3://bucket/a.json`` is ``root/bucket/a.json``, ``https://host/bucket/a.json`` is ``root/bucket/a.json``.

    :raises ImportFileError: the path leads out of ``root``
    """
    parts = urlsplit(name) if "://" in name else None
    if parts is not None:
        bucket = "" if parts.scheme in ("http", "https") else parts.netloc
        name = f"{bucket}/{unquote(parts.path)}"
    inside = f"{volume}/{name}".lstrip("/")
    try:
        path = (root / inside).resolve()
    except (OSError, ValueError, RuntimeError) as err:
        raise ImportFileError(f"path {name!r} cannot be read: {err}") from None
    if not path.is_relative_to(root.resolve()):
        raise ImportFileError(f"path {name!r} is outside the server's --data-dir, and is refused")
    return path


def _inside(path: Path) -> list[Path]:
    try:
        return sorted(p for p in path.iterdir() if p.suffix in SUFFIXES) if path.is_dir() else [path]
    except OSError as err:  # a name that is too long, or a folder that may not be read
        raise ImportFileError(f"path {path.name[:100]!r} cannot be read: {err.strerror}") from None


def expand(root: Path, group: Sequence[str], volume: str = "") -> list[tuple[Path, ...]]:
    """Return the files of one inner list: single files, or one set of NumPy files; a folder stands for its files.

    :raises ImportFileError: a file is missing, outside ``root`` or of an unknown kind
    """
    paths: list[Path] = []
    for name in group:
        path = local_path(root, name, volume)
        inside = _inside(path)
        paths += [local_path(root, str(p.relative_to(root.resolve()))) for p in inside]
        if not inside:
            raise ImportFileError(f"folder {name!r} holds no file to import")
    for path in paths:
        if not path.is_file():
            raise ImportFileError(f"file not found: {path.relative_to(root.resolve())}, below the server's --data-dir")
        if path.suffix not in SUFFIXES:
            raise ImportFileError(f"unexpect file type, files=[{path.name}]")
    if all(path.suffix == ".npy" for path in paths):
        return [tuple(paths)]
    return [(path,) for path in paths]
