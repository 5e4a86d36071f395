from __future__ import annotations

import pytest

from airflow_zilliz._protocol.object_path import object_of
from airflow_zilliz._submit.file_matching import Match, match_files

TWO = [["day/a.parquet"], ["day/b.json"]]
NUMPY = [["1/id.npy", "1/vector.npy"]]


@pytest.mark.parametrize(
    ("shown", "groups"),
    [
        (["[day/a.parquet]", "[day/b.json]"], TWO),
        (["[day/b.json day/a.parquet]"], TWO),  # one task that holds both
        (["[/day/a.parquet]", "[day/b.json]"], [["day/a.parquet"], ["/day/b.json"]]),
        (["[1/id.npy 1/vector.npy]"], NUMPY),
        (['id:449839014328146740 paths:"day/a.parquet" ', 'id:4 paths:"day/b.json" '], TWO),
        (['id:4  paths:"day/gr\\303\\266\\303\\237e.parquet"'], [["day/größe.parquet"]]),
        (["[day/größe.parquet]"], [["day/größe.parquet"]]),
        (["[my books/part 1.parquet]"], [["my books/part 1.parquet"]]),
        (
            ["[my books/part 1.parquet my books/part 2.parquet]"],
            [["my books/part 1.parquet"], ["my books/part 2.parquet"]],
        ),
        (["[day/a,b.parquet]"], [["day/a,b.parquet"]]),
        (["[day/[x] a.parquet]"], [["day/[x] a.parquet"]]),
        (["[day/a%20b.parquet]"], [["day/a%20b.parquet"]]),
        (["[day/a b.parquet]"], [["day/a%20b.parquet"]]),  # a server that decodes
        (["[a.parquet]"], [["a.parquet"]]),  # a file in the bucket's root
        (["[a.parquet]", "[a.parquet]"], [["a.parquet"], ["a.parquet"]]),
        (["day/a.parquet", "day/b.json", None, " "], TWO),
        (["[/my books/1.parquet /my books/2.parquet]"], [["my books/1.parquet"], ["my books/2.parquet"]]),
        (["[/day/a.parquet /day/b.json]"], [["day/a.parquet"], ["day/b.json"]]),
        (["day/a].parquet"], [["day/a].parquet"]]),
        (["[ a.parquet]"], [[" a.parquet"]]),
        (['[paths:"a".parquet]'], [['paths:"a".parquet']]),
        (["[day/a.parquet ]"], [["day/a.parquet "]]),
        (["[day/a\tb.parquet day/c.parquet]"], [["day/a\tb.parquet"], ["day/c.parquet"]]),
    ],
)
def test_whole_paths_that_are_equal_are_the_same(shown: list[str | None], groups: list[list[str]]) -> None:
    assert match_files(shown, groups) is Match.SAME


@pytest.mark.parametrize(
    ("shown", "groups"),
    [
        (["[country=DE/data.parquet]"], [["country=FR/data.parquet"]]),
        (["[5c0d/1.parquet]"], [["8ca4/1.parquet"]]),
        (["[1.parquet]"], [["8ca4/1.parquet"]]),  # a file in the bucket's root
        (["[day/a.parquet]", "[day/b.json]", "[day/c.json]"], TWO),
        (["[my books/part 3.parquet]"], [["my books/part 1.parquet"]]),
        (["[day/x]"], [["my books/part 1.parquet"]]),
        (['id:4 paths:"day/c.parquet"'], TWO),
        (["c.parquet"], TWO),
        (["day/c.parquet"], [["day/a.parquet"]]),
        (["[x.parquet]"], [["folder/"]]),
    ],
)
def test_a_path_that_was_not_asked_for_is_another_job_s(shown: list[str], groups: list[list[str]]) -> None:
    assert match_files(shown, groups) is Match.OTHER


@pytest.mark.parametrize(
    ("shown", "groups"),
    [
        (["[day/a.parquet]"], TWO),  # some of them: not all tasks may be shown yet
        (["[a.parquet]"], [["a.parquet"], ["a.parquet"]]),
        (["1.parquet"], [["8ca4/1.parquet"]]),  # Zilliz Cloud: a name without its folder
        (["a.parquet"], [["a.parquet"]]),  # likewise, whatever was asked for
        (["a.parquet", "[day/b.json]"], TWO),
        (["[folder/x.parquet]"], [["folder/"]]),
        (["x.parquet"], [["folder/"]]),
    ],
)
def test_what_may_be_either_is_similar(shown: list[str], groups: list[list[str]]) -> None:
    assert match_files(shown, groups) is Match.SIMILAR


@pytest.mark.parametrize("shown", [[], [None, ""], ["  "]])
def test_a_job_without_names_hides_its_files(shown: list[str | None]) -> None:
    assert match_files(shown, TWO) is Match.HIDDEN


URL = "https://bucket.s3.amazonaws.com/day/a%20b.parquet?X-Amz-Signature=abc&X-Amz-Date=1"


@pytest.mark.parametrize(
    ("shown", "match"),
    [
        ("a b.parquet", Match.SIMILAR),
        ("a%20b.parquet", Match.SIMILAR),
        (URL, Match.SIMILAR),
        ("[bulkload/in01/job-0/1/a b.parquet]", Match.SIMILAR),  # the copy that the Cloud makes first
        ("c.parquet", Match.OTHER),
        ("folder/", Match.OTHER),
    ],
)
def test_of_objects_that_are_copied_first_only_the_names_count_and_never_prove(shown: str, match: Match) -> None:
    assert match_files([shown], [[URL]], whole_paths=False) is match


def test_a_key_with_an_escape_of_its_own_is_escaped_twice_in_a_url() -> None:
    url = "https://bucket.s3.amazonaws.com/day/hour=10%253A00.parquet"
    assert match_files(["hour=10%3A00.parquet"], [[url]], whole_paths=False) is Match.SIMILAR


def test_what_is_in_a_folder_of_objects_is_undecided() -> None:
    folder = "https://bucket.s3.amazonaws.com/day/"
    assert match_files(["x.parquet"], [[folder]], whole_paths=False) is Match.SIMILAR
    assert match_files(["day/"], [[folder]], whole_paths=False) is Match.SIMILAR


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (URL, "https://bucket.s3.amazonaws.com/day/a%20b.parquet"),
        ("s3://bucket/a.parquet?versionId=7&X-Amz-Signature=x", "s3://bucket/a.parquet?versionId=7"),
        (
            "abfss://c@account.dfs.core.windows.net/a.parquet?sig=x#y",
            "abfss://c@account.dfs.core.windows.net/a.parquet",
        ),
        ("day/what?.parquet", "day/what?.parquet"),
        ("day/a#1.parquet", "day/a#1.parquet"),
        ("s3://bucket/day/a#1.parquet", "s3://bucket/day/a#1.parquet"),
        ("gs://bucket/what?.parquet", "gs://bucket/what?.parquet"),
        ("https://a.blob.core.windows.net/c/x?sig=1&snapshot=2", "https://a.blob.core.windows.net/c/x?snapshot=2"),
        ("https://a.blob.core.windows.net/c/x?versionid=2&sig=1", "https://a.blob.core.windows.net/c/x?versionid=2"),
    ],
)
def test_an_object_is_named_without_its_signature(path: str, name: str) -> None:
    assert object_of(path) == name
