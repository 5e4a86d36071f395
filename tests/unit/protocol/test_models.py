from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_zilliz._protocol.job_parsing import parse_job
from airflow_zilliz._protocol.models import FileProgress, ImportProgress, ImportState

MILVUS = {
    "collectionName": "clue_data",
    "completeTime": "",
    "details": [
        {
            "completeTime": "2025-01-16T08:42:09Z",
            "fileName": "[5.parquet]",
            "fileSize": 6776153,
            "importedRows": 520161,
            "progress": 100,
            "state": "Completed",
            "totalRows": 520161,
        }
    ],
    "fileSize": 6776153,
    "importedRows": 520161,
    "jobId": "454366314212367666",
    "progress": 80,
    "state": "Importing",
    "totalRows": 520161,
}
SDK_PAGE = {
    "collectionName": "medium_articles",
    "fileName": "folder/1/",
    "fileSize": 26571700,
    "readyPercentage": 1,
    "completeTime": "2023-10-28T06:51:49Z",
    "errorMessage": None,
    "jobId": "job-01fa0e5d42cjxudhpuehyp",
    "details": [
        {
            "fileName": "folder/1/",
            "fileSize": 26571700,
            "readyPercentage": 1,
            "completeTime": "2023-10-28T06:51:49Z",
            "errorMessage": None,
        }
    ],
}


def job(**fields: Any) -> ImportProgress:
    parsed = parse_job({"jobId": "j", "state": "Importing", **fields})
    assert parsed is not None
    return parsed


def test_todays_milvus_response() -> None:
    parsed = parse_job(MILVUS)
    moment = datetime(2025, 1, 16, 8, 42, 9, tzinfo=timezone.utc)
    assert parsed == ImportProgress(
        job_id="454366314212367666",
        state=ImportState.IMPORTING,
        progress=80,
        collection_name="clue_data",
        imported_rows=520161,
        total_rows=520161,
        file_size=6776153,
        details=(FileProgress("[5.parquet]", ImportState.COMPLETED, 100, None, 520161, 520161, 6776153, moment),),
    )
    assert parsed.raw == MILVUS


def test_sdk_page_example_is_completed() -> None:
    parsed = parse_job(SDK_PAGE)
    assert parsed is not None
    assert parsed.state is ImportState.COMPLETED
    assert parsed.progress == 100
    assert parsed.complete_time == datetime(2023, 10, 28, 6, 51, 49, tzinfo=timezone.utc)
    assert parsed.details[0].state is ImportState.COMPLETED


@pytest.mark.parametrize(
    ("fields", "state", "percent"),
    [
        ({"readyPercentage": 0}, ImportState.PENDING, 0),
        ({"readyPercentage": 0.4}, ImportState.IMPORTING, 40),
        ({"readyPercentage": 0.29}, ImportState.IMPORTING, 29),
        ({"readyPercentage": 1.0}, ImportState.COMPLETED, 100),
        ({"readyPercentage": "1"}, ImportState.COMPLETED, 100),
        ({"readyPercentage": 40}, ImportState.IMPORTING, 40),
        ({"readyPercentage": 100}, ImportState.COMPLETED, 100),
        ({"readyPercentage": 0.4, "errorMessage": "no such file"}, ImportState.FAILED, 40),
        ({"readyPercentage": 1, "errorMessage": ""}, ImportState.COMPLETED, 100),
        ({"errorMessage": "no such file"}, ImportState.FAILED, 0),
    ],
)
def test_old_shape_without_state(fields: dict[str, Any], state: ImportState, percent: int) -> None:
    parsed = parse_job({"jobId": "j", **fields})
    assert parsed is not None
    assert (parsed.state, parsed.progress) == (state, percent)


@pytest.mark.parametrize(
    "fields", [{}, {"progress": 100}, {"state": None}, {"state": ""}, {"reason": "x"}, {"readyPercentage": None}]
)
def test_no_state_is_no_job(fields: dict[str, Any]) -> None:
    assert parse_job({"jobId": "j", **fields}) is None


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("Pending", ImportState.PENDING),
        ("importing", ImportState.IMPORTING),
        ("InProgress", ImportState.IMPORTING),
        ("ImportRunning", ImportState.IMPORTING),
        ("ImportCompleted", ImportState.COMPLETED),
        ("ImportFailed", ImportState.FAILED),
        ("IN_PROGRESS", ImportState.IMPORTING),
        ("In Progress", ImportState.IMPORTING),
        ("SUCCESSFUL", ImportState.COMPLETED),
        ("Cancel", ImportState.FAILED),
        ("ImportCancel", ImportState.FAILED),
        ("CANCELED", ImportState.FAILED),
        ("Cancelled", ImportState.FAILED),
        ("CANCELING", ImportState.UNKNOWN),
        ("Uncommitted", ImportState.UNCOMMITTED),
        ("Committing", ImportState.COMMITTING),
        ("None", ImportState.UNKNOWN),
        ("Frobnicating", ImportState.UNKNOWN),
        ("Unknown", ImportState.UNKNOWN),
    ],
)
def test_words(word: str, state: ImportState) -> None:
    assert job(state=word).state is state


def test_an_unknown_word_is_kept_for_the_log() -> None:
    assert job(state="Frobnicating", progress=3).summary() == "Frobnicating 3 %"
    assert not job(state="Frobnicating").state.is_final


@pytest.mark.parametrize(
    ("value", "percent"),
    [
        (0.4, 40),
        ("40", 40),
        ("40%", 40),
        (1, 1),
        (1.0, 1),
        (99.9, 99),
        (-5, 0),
        (1000, 100),
        (None, 0),
        ("", 0),
        (True, 0),
    ],
)
def test_percent(value: object, percent: int) -> None:
    assert job(progress=value).progress == percent


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        (5_000_000_000, 5_000_000_000),
        ("5000000000", 5_000_000_000),
        (3.0, 3),
        (0, 0),
        (None, None),
        ("", None),
        ("many", None),
        (-1, None),
        (2**64, None),
        (True, None),
        ([], None),
    ],
)
def test_counts(value: object, rows: int | None) -> None:
    parsed = job(importedRows=value, totalRows=value, fileSize=value)
    assert (parsed.imported_rows, parsed.total_rows, parsed.file_size) == (rows, rows, rows)


def test_import_rows_of_the_sdk_page_text() -> None:
    assert job(importRows=7).imported_rows == 7


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-04-01T06:17:55Z", datetime(2024, 4, 1, 6, 17, 55, tzinfo=timezone.utc)),
        ("2024-04-01T06:17:55+08:00", datetime(2024, 3, 31, 22, 17, 55, tzinfo=timezone.utc)),
        ("2024-04-01T06:17:55-0330", datetime(2024, 4, 1, 9, 47, 55, tzinfo=timezone.utc)),
        ("2024-04-01 06:17:55.5", datetime(2024, 4, 1, 6, 17, 55, 500_000, tzinfo=timezone.utc)),
        ("2024-04-01T06:17:55.123456789Z", datetime(2024, 4, 1, 6, 17, 55, 123_456, tzinfo=timezone.utc)),
        ("", None),
        ("2024-13-01T06:17:55Z", None),
        ("2024-04-01T06:17:55+99:99", None),
        (1711952275, None),
        (None, None),
    ],
)
def test_times(text: object, moment: datetime | None) -> None:
    parsed = job(completeTime=text).complete_time
    assert parsed == moment
    assert parsed is None or parsed.utcoffset() is not None


def test_the_zone_of_a_time_is_kept() -> None:
    complete_time = job(completeTime="2024-04-01T06:17:55+08:00").complete_time
    assert complete_time is not None
    assert complete_time.utcoffset() == timedelta(hours=8)


def test_reason_is_verbatim_and_empty_is_none() -> None:
    assert job(state="Failed", reason="a  b\nc").reason == "a  b\nc"
    assert job(state="Failed", reason="").reason is None
    assert job(state="Failed", reason={"a": 1}).reason == '{"a": 1}'


@pytest.mark.parametrize("word", ["Cancel", "ImportCancel", "CANCELED"])
def test_a_cancelled_job_is_called_so_unless_the_server_gives_a_reason(word: str) -> None:
    assert job(state=word, reason="").reason == f"cancelled on the server, which says {word!r}"
    assert job(state=word, reason="by root").reason == "by root"
    assert job(state="Failed", reason="").reason is None


def test_what_no_database_can_store_is_taken_out_of_texts() -> None:
    parsed = job(state="Failed", reason=json.loads('"a\\u0000b\\ud800c"'))
    assert parsed.reason == "ab?c"


def test_result_holds_json_types_alone() -> None:
    parsed = parse_job(SDK_PAGE)
    assert parsed is not None
    assert json.loads(json.dumps(parsed.result())) == {
        "job_id": "job-01fa0e5d42cjxudhpuehyp",
        "collection_name": "medium_articles",
        "state": "Completed",
        "imported_rows": None,
        "total_rows": None,
        "file_size": 26571700,
        "complete_time": "2023-10-28T06:51:49+00:00",
    }


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"progress": 40}, "Importing 40 %"),
        ({"progress": 40, "importedRows": 0, "totalRows": 4500}, "Importing 40 %, 0 of 4,500 rows"),
        ({"state": "Completed", "totalRows": 4500}, "Completed, 4,500 rows"),
        ({"state": "Failed", "importedRows": 0, "totalRows": 0}, "Failed"),
    ],
)
def test_summary(fields: dict[str, Any], text: str) -> None:
    assert job(**fields).summary() == text


def test_file_reasons_name_failed_files() -> None:
    parsed = job(
        state="Failed",
        details=[
            {"fileName": "a.json", "state": "Completed"},
            {"fileName": "b.json", "state": "Failed", "reason": "bad row"},
            {"state": "Failed"},
            "nonsense",
        ],
    )
    assert parsed.file_reasons == (("b.json", "bad row"), ("(unnamed file)", "no reason given"))
