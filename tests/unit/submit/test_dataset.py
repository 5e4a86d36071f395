"""The plan of a dataset's import."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_zilliz._submit.dataset import FileGroup, PlannedJob, groups_of_lists, named_paths, split
from airflow_zilliz.exceptions import ZillizConfigError


@st.composite
def groups(draw: st.DrawFn) -> list[FileGroup]:
    sizes = draw(st.lists(st.tuples(st.integers(1, 3), st.none() | st.integers(1, 50)), max_size=30))
    return [
        FileGroup(tuple(f"{number:03}/{part}" for part in range(parts)), size)
        for number, (parts, size) in enumerate(sizes)
    ]


@given(groups(), st.integers(3, 8), st.none() | st.integers(1, 60))
def test_every_group_is_in_one_job_within_the_limits(found: list[FileGroup], most: int, most_bytes: int | None) -> None:
    jobs = split(found, most, most_bytes)
    assert [group for job in jobs for group in job.groups] == found, "each once, in order"
    for job in jobs:
        assert job.groups
        assert len(job.paths) <= most
        known = sum(group.size or 0 for group in job.groups)
        assert most_bytes is None or known <= most_bytes or len(job.groups) == 1


@given(groups(), st.integers(3, 8), st.none() | st.integers(1, 60), st.randoms(use_true_random=False))
def test_the_order_of_the_files_makes_no_difference(
    found: list[FileGroup], most: int, most_bytes: int | None, chance: random.Random
) -> None:
    shuffled = list(found)
    chance.shuffle(shuffled)
    assert split(shuffled, most, most_bytes) == split(found, most, most_bytes)


@given(groups(), st.integers(3, 8))
def test_no_two_neighbours_would_fit_into_one_job(found: list[FileGroup], most: int) -> None:
    jobs = split(found, most)
    for first, second in itertools.pairwise(jobs):
        assert len(first.paths) + len(second.groups[0].paths) > most


@given(groups(), st.integers(3, 8))
def test_a_job_is_read_back_as_it_was(found: list[FileGroup], most: int) -> None:
    for job in split(found, most):
        assert PlannedJob.from_json(job.as_json()) == job


@pytest.mark.parametrize("value", [None, [], [[[], 1]], [[["a"], "1"]], [[["a", 2], 1]], [[["a"]]], [[["a"], True]]])
def test_what_is_no_job_is_not_read(value: object) -> None:
    with pytest.raises(ValueError, match=r"a (job|group) without"):
        PlannedJob.from_json(value)


def test_a_job_has_a_size_only_where_all_are_known() -> None:
    assert PlannedJob((FileGroup(("a",), 1), FileGroup(("b",), 2))).size == 3
    assert PlannedJob((FileGroup(("a",), 1), FileGroup(("b",)))).size is None


def test_a_group_too_large_for_one_job_is_an_error() -> None:
    with pytest.raises(ZillizConfigError, match="group of 'a' has 2 files"):
        split([FileGroup(("a", "b"))], 1)


def test_a_group_given_twice_is_imported_once_and_a_file_of_two_groups_is_an_error() -> None:
    assert groups_of_lists([["a"], ["b"], ["a"]], {"a": 5}) == [FileGroup(("a",), 5), FileGroup(("b",))]
    with pytest.raises(ZillizConfigError, match="'a' is in two groups"):
        groups_of_lists([["a"], ["a", "b"]])


@pytest.mark.parametrize("other", ["s3a://bucket/a#1.parquet", "S3://bucket/a#1.parquet"])
def test_an_object_of_two_notations_is_an_error(other: str) -> None:
    with pytest.raises(ZillizConfigError, match="differ only in their query or notation"):
        groups_of_lists([["s3://bucket/a#1.parquet"], [other]])
    with pytest.raises(ZillizConfigError, match="differ only in their query or notation"):
        groups_of_lists([["a.parquet"], ["/a.parquet"]])
    assert len(groups_of_lists([["s3://bucket/a#1.parquet"], ["s3://bucket/a#2.parquet"]])) == 2


def test_few_of_many_paths_are_named() -> None:
    assert named_paths(["a", "b"]) == "a, b"
    assert named_paths([str(number) for number in range(1200)]) == "0, 1, 2, 3, 4 and 1,195 more"
