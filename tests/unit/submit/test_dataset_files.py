"""Which objects of a storage are a dataset's files."""

from __future__ import annotations

import pytest

from airflow_zilliz._submit.dataset import FileGroup
from airflow_zilliz._submit.dataset_files import Found, Source, listing_of, parse_source
from airflow_zilliz.exceptions import ZillizConfigError


@pytest.mark.parametrize(
    ("text", "root", "pattern"),
    [
        ("s3://aws@lake/books/**/*.parquet", "s3://aws@lake/books", "**/*.parquet"),
        ("s3://lake/books/2026-*/a.parquet", "s3://lake/books", "2026-*/a.parquet"),
        ("gs://lake/books/", "gs://lake/books", ""),
        ("gs://lake", "gs://lake", ""),
        ("gs://lake/*.csv", "gs://lake/", "*.csv"),
        ("file:///data/books/*.json", "file:///data/books", "*.json"),
    ],
)
def test_a_source_is_a_folder_and_a_pattern(text: str, root: str, pattern: str) -> None:
    assert parse_source(text) == Source(root, pattern)


@pytest.mark.parametrize("text", ["", "books/*.parquet", "s3://", "s3://la*ke/books", "s3://b/k?X-Amz-Signature=1"])
def test_what_is_no_source_is_an_error(text: str) -> None:
    with pytest.raises(ZillizConfigError, match="source must"):
        parse_source(text)


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.parquet", "a.parquet", True),
        ("*.parquet", "x/a.parquet", False),
        ("*.parquet", "a.parquet.tmp", False),
        ("**/*.parquet", "a.parquet", True),
        ("**/*.parquet", "x/y/a.parquet", True),
        ("x/**", "x/y/a.parquet", True),
        ("x/**", "y/a.parquet", False),
        ("day=?/[ab].json", "day=1/b.json", True),
        ("day=?/[!ab].json", "day=1/b.json", False),
        ("day=?/[!ab].json", "day=1/c.json", True),
        ("a+b*.json", "a+b1.json", True),
        ("a.json*", "abjson", False),
    ],
)
def test_a_pattern_takes_paths(pattern: str, path: str, matches: bool) -> None:
    assert Source("s3://lake", pattern).matches(path) is matches


def listed(*paths: str, size: int | None = 1) -> list[Found]:
    return [Found(path, f"books/{path}", size) for path in paths]


def test_files_are_sorted_and_hidden_and_empty_ones_left_out() -> None:
    found = [*listed("b.json", "a.json", "_SUCCESS", "x/.a.json", "_x/a.json"), *listed("c.json", size=0)]
    listing = listing_of(found, Source("s3://lake/books", ""))
    assert listing.groups == (FileGroup(("books/a.json",), 1), FileGroup(("books/b.json",), 1))
    assert (listing.hidden, listing.empty) == (3, 1)


def test_the_numpy_files_of_a_folder_are_one_group() -> None:
    found = [*listed("1/id.npy", "1/vector.npy", "2/id.npy", "2/notes.json"), *listed("2/vector.npy", size=None)]
    assert listing_of(found, Source("s3://lake/books", "")).groups == (
        FileGroup(("books/1/id.npy", "books/1/vector.npy"), 2),
        FileGroup(("books/2/id.npy", "books/2/vector.npy")),
        FileGroup(("books/2/notes.json",), 1),
    )


def test_two_files_of_one_name_for_the_server_are_an_error() -> None:
    found = [Found(path, path.rpartition("/")[2], 1) for path in ("1/a.json", "2/a.json")]
    with pytest.raises(ZillizConfigError, match=r"to_path returned 'a.json' for both '1/a.json' and '2/a.json'"):
        listing_of(found, Source("s3://lake/books", ""))
