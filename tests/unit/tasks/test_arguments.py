from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import XComArg

from airflow_zilliz._protocol.models import ImportState
from airflow_zilliz._tasks.arguments import check_literals, normalise_arguments, normalised
from airflow_zilliz.exceptions import ZillizConfigError

try:
    from airflow.sdk import ObjectStoragePath
except ImportError:
    from airflow.io.path import ObjectStoragePath  # type: ignore[no-redef] # the same in its older place

GROUPS = [["a.parquet"], ["b.npy", "c.npy"]]


class Lazy(Sequence[Any]):
    """A sequence that is no list, as Airflow's of a mapped task's outputs."""

    def __init__(self, *parts: Any) -> None:
        self._parts = parts

    def __getitem__(self, index: Any) -> Any:
        return self._parts[index]

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parts)


@pytest.mark.parametrize(
    ("name", "came", "means"),
    [
        ("files", GROUPS, GROUPS),
        ("files", Lazy(Lazy("a.parquet"), ("b.npy", "c.npy")), GROUPS),
        ("object_urls", json.dumps(GROUPS), GROUPS),
        ("data_paths", str(GROUPS), GROUPS),
        ("files", [json.dumps(group) for group in GROUPS], GROUPS),
        ("files", "None", None),
        ("files", " ", None),
        ("files", None, None),
        ("files", [[20240101]], [["20240101"]]),
        ("files", [[PurePosixPath("day/a.parquet")]], [["day/a.parquet"]]),
        ("object_urls", [[ObjectStoragePath("s3://aws_default@bucket/a b.parquet")]], [["s3://bucket/a b.parquet"]]),
        ("object_urls", [[ObjectStoragePath("gs://bucket/a.parquet")]], [["gs://bucket/a.parquet"]]),
        ("options", {"auto_commit": False, "timeout": None}, {"auto_commit": False}),
        ("options", '{"auto_commit": false, "timeout": "None"}', {"auto_commit": False}),
        ("options", "{'auto_commit': False}", {"auto_commit": False}),
        ("options", {"n": 3, "x": ImportState.FAILED}, {"n": 3, "x": "Failed"}),
        ("options", "None", None),
        ("options", "{}", {}),
        ("job_id", 450000000000000001, "450000000000000001"),
        ("job_id", " job-1 \n", "job-1"),
        ("job_id", {"job_id": 450000000000000001, "state": "Completed"}, "450000000000000001"),
        ("job_id", '{"jobId": "job-1"}', "job-1"),
        ("job_id", "{'job_id': 'job-1', 'imported_rows': None}", "job-1"),
        ("job_id", {"jobID": 7}, "7"),
        ("job_id", "None", None),
        ("job_id", {"job_id": None}, None),
        ("job_id", ["job-1"], ["job-1"]),
        ("job_id", [], []),
        ("job_id", Lazy({"job_id": "1"}, {"jobId": 2}, "1"), ["1", "2"]),
        ("job_id", '["1", {"job_id": "2"}]', ["1", "2"]),
        ("job_id", "[{'job_id': '1', 'imported_rows': None}]", ["1"]),
        ("collection_name", 20240101, "20240101"),
        ("collection_name", 2024.0, "2024"),
        ("collection_name", 1.5, "1.5"),
        ("collection_name", True, "True"),
        ("db_name", Decimal("7"), "7"),
        ("idempotency_key", "None", None),
        ("idempotency_key", "", None),
        ("idempotency_key", None, None),
        ("cluster_id", " in01-abc\n", "in01-abc"),
    ],
)
def test_what_comes_and_what_it_means(name: str, came: Any, means: Any) -> None:
    value = normalised(name, came, "t")
    assert (value, type(value)) == (means, type(means))
    assert normalised(name, value, "t") == means, "and again"


@pytest.mark.parametrize(
    ("name", "came", "said"),
    [
        ("files", ["a.parquet"], "list of lists.*not list: .*a list of its own"),
        ("files", Lazy("a.parquet"), "not Lazy: "),
        ("files", "a.parquet", "not str: 'a.parquet'"),
        ("files", "[", r"not str: '\['"),
        ("files", {"a": ["b"]}, "not dict: "),
        ("files", 7, "not int: 7"),
        ("files", [], "it names no file"),
        ("files", [[]], "it names no file"),
        ("files", [["a"], []], "it names no file"),
        ("files", [[""]], "a path of type str"),
        ("files", [[None]], "a path of type NoneType"),
        ("files", [[True]], "a path of type bool"),
        ("files", [[["a"]]], "a path of type list"),
        ("files", {"a"}, "not set: "),
        ("options", [("a", 1)], "a dict of plain values.*not list: "),
        ("options", {"a": [1]}, "'a' is of type list"),
        ("options", {"a": {}}, "'a' is of type dict"),
        ("options", {1: 2}, "not dict: "),
        ("options", "timeout=3", "not str: 'timeout=3'"),
        ("job_id", ["1", None], "not list: .*its item 1 is empty"),
        ("job_id", ["1", ["2"]], "not list: .*a list within a list"),
        ("job_id", {"1", "2"}, "not set: .*no order"),
        ("job_id", 4.5e17, "not float: .*digits"),
        ("job_id", {"state": "Completed"}, "a job id, a dict with job_id.*not dict: "),
        ("job_id", object(), "not object: "),
        ("collection_name", ["books"], r"text, not list: \['books'\]"),
        ("collection_name", b"books", "not bytes: "),
        ("idempotency_key", {"a": 1}, "not dict: "),
    ],
)
def test_anything_else_is_an_error_that_says_what_came(name: str, came: Any, said: str) -> None:
    with pytest.raises(ZillizConfigError, match=f"^{name} of task 'load' must be (?=.*{said})") as raised:
        normalised(name, came, "load")
    assert len(str(raised.value)) < 600


def test_no_signature_is_in_an_error() -> None:
    url = "https://host/a.parquet?X-Amz-Credential=AKIA0123456789ABCDEF&X-Amz-Signature=51960123"
    with pytest.raises(ZillizConfigError) as raised:
        normalised("object_urls", [url] * 20, "load")
    assert "https://host/a.parquet'" in str(raised.value)
    assert not any(part in str(raised.value) for part in ("X-Amz", "AKIA", "5196"))


def test_a_repr_that_fails_does_not_hide_the_error() -> None:
    class Bad:
        def __repr__(self) -> str:
            raise KeyError

    with pytest.raises(ZillizConfigError, match=r"not Bad: \(its repr raises KeyError\)"):
        normalised("files", Bad(), "load")


def a_task(**values: Any) -> Any:
    return SimpleNamespace(task_id="load", template_fields=tuple(values), **values)


def test_all_template_fields_of_a_task() -> None:
    task = a_task(files=str(GROUPS), collection_name=7, idempotency_key="None")
    normalise_arguments(task)
    assert (task.files, task.collection_name, task.idempotency_key) == (GROUPS, "7", None)


@pytest.mark.parametrize("name", ["zilliz_conn_id", "collection_name"])
def test_what_no_task_can_do_without(name: str) -> None:
    for check in (check_literals, normalise_arguments):
        with pytest.raises(ZillizConfigError, match=f"^{name} of task 'load' is empty"):
            check(a_task(**{name: "None"}))


@pytest.mark.parametrize(
    "value",
    ["{{ a }}", "{% if a %}[]{% endif %}", ["{{ a }}"], [["a"], "{{ b }}"], ("x", {"k": "{{ a }}"}), {"{{ a }}": 1}],
)
def test_a_template_is_not_checked_when_the_dag_is_parsed(value: Any) -> None:
    check_literals(a_task(files=value, job_id=value, options=value))


def test_an_xcom_is_not_checked_when_the_dag_is_parsed() -> None:
    from airflow.providers.common.compat.sdk import DAG

    from airflow_zilliz.sensors import ZillizImportSensor

    with DAG("xcoms", schedule=None):
        output = ZillizImportSensor(task_id="a", job_id="1").output
    assert isinstance(output, XComArg)
    check_literals(a_task(files=output, job_id=output, options=[output]))


def test_a_literal_is_checked_when_the_dag_is_parsed() -> None:
    with pytest.raises(ValueError, match=r"^files of task 'load'"):
        check_literals(a_task(files=["a.parquet"]))


def test_a_literal_may_be_right() -> None:
    check_literals(a_task(files=GROUPS, options={"a": 1}, job_id=7, collection_name=20240101))


def test_fields_of_a_subclass_are_its_own() -> None:
    task = a_task(sql=["SELECT 1"], files=str(GROUPS))
    check_literals(task)
    normalise_arguments(task)
    assert (task.sql, task.files) == (["SELECT 1"], GROUPS)


@pytest.mark.parametrize(("length", "is_cut"), [(198, False), (199, True)])
def test_an_error_shows_an_excerpt(length: int, is_cut: bool) -> None:
    with pytest.raises(ZillizConfigError) as raised:
        normalised("files", "x" * length, "load")
    assert str(raised.value).endswith("..." if is_cut else f"'{'x' * length}'")


def test_a_sequence_that_cannot_be_sliced_is_read_item_by_item() -> None:
    class Unsliced(Lazy):
        def __getitem__(self, index: Any) -> Any:
            if isinstance(index, slice):
                raise TypeError
            return super().__getitem__(index)

    assert normalised("job_id", Unsliced("1", "2"), "wait") == ["1", "2"]
