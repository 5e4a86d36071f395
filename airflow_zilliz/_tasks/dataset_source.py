"""Lists the files of a dataset in an object storage, with Airflow's ``ObjectStoragePath``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from airflow_zilliz._protocol.scrubbing import mask_patterns, signing_values
from airflow_zilliz._submit.dataset_files import Found, Listing, Source, listing_of, parse_source
from airflow_zilliz._wait.texts import plural
from airflow_zilliz.exceptions import ZillizConfigError, ZillizUnavailable

log = logging.getLogger(__name__)


def list_source(text: str, to_path: Callable[[str], str]) -> Listing:
    """Return the files of a dataset.

    :param text: the source
    :param to_path: turns a file's URL into the path or URL that the server expects
    :raises ZillizConfigError: the source cannot be read as one, no installed provider has its scheme, or ``to_path``
        returns no path
    :raises ZillizUnavailable: the storage cannot be listed; nothing was sent, and a retry is safe
    """
    source = parse_source(text)
    try:
        found = list(_objects(source))
    except ZillizConfigError:
        raise
    except Exception as err:
        # a storage's library may raise anything: wrong keys, no connection, no such bucket
        raise ZillizUnavailable(
            f"source {text!r} cannot be listed ({type(err).__name__}: {mask_patterns(str(err))[:1000]}). No import was "
            "sent, and a retry is safe",
            was_sent=False,
        ) from err
    listing = listing_of((Found(path, _checked(to_path, url), size) for path, url, size in found), source)
    taken = sum(len(group.paths) for group in listing.groups)
    log.info("%s: %s of %s", text, plural(taken, "file"), f"{len(found):,}")
    if listing.hidden or listing.empty:
        log.info(
            "Left out: %s (a name in the path begins with . or _), %s",
            plural(listing.hidden, "hidden file"),
            plural(listing.empty, "empty file"),
        )
    return listing


def key_of_url(url: str) -> str:
    """Return the key that an object's URL names within its bucket, which is what Milvus's ``files`` take."""
    return url.partition("://")[2].partition("/")[2]


def _checked(to_path: Callable[[str], str], url: str) -> str:
    path = to_path(url)
    if not isinstance(path, str) or not path:
        raise ZillizConfigError(f"to_path must return a path for {url!r}, and returned {path!r}")
    if signing_values(path):  # it would be stored and shown, and have expired by a retry
        raise ZillizConfigError(
            f"to_path returned a signed URL for {url!r}: give the keys of the storage as storage_conn_id instead"
        )
    return path


def _objects(source: Source) -> Iterator[tuple[str, str, int | None]]:
    """Yield each object's path below the root, its URL, and its size."""
    from airflow.providers.common.compat.sdk import ObjectStoragePath  # here, since fsspec takes long to import

    try:
        root = ObjectStoragePath(source.root)
        storage = root.fs
    except ValueError as err:
        if "filesystem" not in str(err):  # of a storage's library, about its connection
            raise
        raise ZillizConfigError(
            f"source {source.root!r} cannot be listed: {err}. Install the provider that has it, for instance "
            "apache-airflow-providers-amazon[s3fs] for s3, on every worker"
        ) from err
    scheme = source.root.partition("://")[0]
    base = str(root.path).rstrip("/")
    name = source.root.partition("://")[2].partition("/")[2].rpartition("/")[2]
    if name != "." and not base.endswith(name):  # its reader gives "::" and a last "#" or "?" a meaning of their own
        raise ZillizConfigError(
            f"source {source.root!r} cannot be listed: Airflow's ObjectStoragePath takes it for {base!r}. Use a "
            "pattern with ? for such characters, below a folder without them"
        )
    # one flat listing: object storages have no folders, and their libraries all list page by page
    for name, info in storage.find(base or "/", detail=True).items():
        if info.get("type") == "directory" or name.endswith("/"):  # S3's consoles make an empty object of a folder
            continue
        size = info.get("size")
        relative = name[len(base) :].lstrip("/") or name.rpartition("/")[2]
        yield relative, f"{scheme}://{name}", size if isinstance(size, int) else None
