from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_zilliz._protocol.job_parsing import parse_job
from airflow_zilliz._protocol.models import FileProgress, ImportProgress, ImportState
from airflow_zilliz._wait.checkpoint import EMPTY_CHECKPOINT, Checkpoint
from airflow_zilliz._wait.snapshot import Part, Snapshot
from airflow_zilliz._wait.snapshot_json import MAX_JSON, MAX_PARTS, parts_of, snapshot_json

BEGAN = 1_790_000_000.0


def job(state: str = "Importing", progress: int | None = 40, **fields: Any) -> ImportProgress:
    shown = {} if progress is None else {"progress": progress}
    found = parse_job({"jobId": "j", "state": state, **shown, **fields})
    assert found is not None
    return found


def seen_of(*readings: tuple[float, ImportProgress]) -> tuple[Snapshot, Checkpoint]:
    """Return the snapshot after some polls, each so many seconds into the wait."""
    snapshot, seen = Snapshot.begin("j", BEGAN, EMPTY_CHECKPOINT), EMPTY_CHECKPOINT
    for seconds, found in readings:
        seen = seen.read(found, BEGAN + seconds)
        snapshot = snapshot.after(found, seen)
    return snapshot, seen


def test_a_poll_s_job_is_shown_with_its_pace() -> None:
    details = [{"fileName": "a.parquet", "state": "Importing", "progress": 40, "importedRows": 10, "totalRows": 30}]
    snapshot, _ = seen_of(
        (0, job(progress=10, importedRows=100, totalRows=1000, fileSize=2048, collectionName="books")),
        (60, job(progress=40, importedRows=400, details=details)),
    )
    assert snapshot_json(snapshot) == {
        "version": 1,
        "job_id": "j",
        "collection_name": "books",
        "state": "Importing",
        "percent": 40,
        "rows": 400,
        "total_rows": 1000,
        "bytes": 2048,
        "rows_per_second": 5.0,
        "seconds_left": None,
        "reason": None,
        "seen_at": "2026-09-21T14:14:20Z",
        "started_at": "2026-09-21T14:13:20Z",
        "moved_at": "2026-09-21T14:14:20Z",
        "trouble_since": None,
        "counts": {"Importing": 1},
        "files": [{"name": "a.parquet", "state": "Importing", "percent": 40, "rows": 10, "total_rows": 30}],
        "more": 0,
    }


def test_time_left_comes_of_rows_or_else_of_percentages() -> None:
    by_rows, _ = seen_of((0, job(importedRows=100, totalRows=1000)), (60, job(importedRows=400, totalRows=1000)))
    by_percent, _ = seen_of((0, job(progress=10)), (30, job(progress=40)))
    assert (by_rows.whole.rows_per_second, by_rows.whole.seconds_left) == (5, 120)
    assert (by_percent.whole.rows_per_second, by_percent.whole.seconds_left) == (None, 60)


def test_a_poll_that_shows_the_same_keeps_the_pace_and_is_no_news() -> None:
    first, seen = seen_of((0, job(importedRows=100, totalRows=1000)), (60, job(importedRows=400, totalRows=1000)))
    again = first.after(found := job(importedRows=400, totalRows=1000), seen.read(found, BEGAN + 90))
    assert again.facts == first.facts
    assert again.whole.seconds_left == first.whole.seconds_left
    assert again.whole.seen_at == BEGAN + 90


def test_a_list_takes_nothing_away_that_a_description_has_shown() -> None:
    snapshot, seen = seen_of((0, job("Committing", 80, importedRows=5, totalRows=9, details=[{"fileName": "a"}])))
    bare = snapshot.after(job("InProgress", None), seen)
    assert (bare.whole.state, bare.whole.percent, bare.whole.rows) == ("Committing", 80, 5)
    assert [part.name for part in bare.parts] == ["a"]


def test_trouble_is_news_and_so_is_its_end() -> None:
    snapshot, seen = seen_of((0, job()))
    troubled = snapshot.after(None, replace(seen, trouble_since=BEGAN + 30))
    assert snapshot_json(troubled)["trouble_since"] == "2026-09-21T14:13:50Z"
    assert troubled.whole == snapshot.whole
    assert troubled.facts != snapshot.facts == troubled.after(None, seen).facts


def test_a_process_begins_with_what_an_earlier_one_saw() -> None:
    _, seen = seen_of((0, job(importedRows=100, totalRows=1000, fileSize=7, collectionName="books")))
    kept = Checkpoint.from_json(json.dumps(seen.as_json()))
    whole = Snapshot.begin("j", BEGAN, kept).whole
    assert (whole.state, whole.percent, whole.rows, whole.total_rows, whole.size) == ("Importing", 40, 100, 1000, 7)


def test_a_failed_job_keeps_the_percentage_that_it_had() -> None:
    snapshot, _ = seen_of((0, job(progress=70)))
    ended = snapshot.ended(job("Failed", 0, reason="row 8 is bad"), BEGAN + 60)
    assert (ended.whole.state, ended.whole.percent, ended.whole.reason) == ("Failed", 70, "row 8 is bad")


def test_the_end_keeps_files_that_an_event_leaves_out() -> None:
    earlier = (Part("a", "Importing", 40, 4, 10), Part("b", "Importing", 50, 5))
    failed = job("Failed", 0, details=[{"fileName": "b", "state": "Failed", "reason": "bad"}])
    snapshot = Snapshot.begin("j", BEGAN, EMPTY_CHECKPOINT)
    assert [(p.name, p.state, p.reason) for p in snapshot.ended(failed, BEGAN, earlier).parts] == [
        ("a", "Importing", None),
        ("b", "Failed", "bad"),
    ]
    done = snapshot.ended(job("Completed", 100), BEGAN, earlier).parts
    assert [(part.name, part.state, part.percent, part.rows) for part in done] == [
        ("a", "Completed", 100, 10),
        ("b", "Completed", 100, 5),
    ]


def test_failed_files_come_first_and_a_hundred_are_listed() -> None:
    details = tuple(
        FileProgress(f"f{n}", ImportState.FAILED if n == 149 else ImportState.COMPLETED, 100) for n in range(150)
    )
    shown = snapshot_json(
        Snapshot.begin("j", BEGAN, EMPTY_CHECKPOINT).after(replace(job(), details=details), Checkpoint())
    )
    assert [part["name"] for part in shown["files"][:2]] == ["f149", "f0"]
    assert (len(shown["files"]), shown["more"]) == (MAX_PARTS, 50)
    assert shown["counts"] == {"Completed": 149, "Failed": 1}


@pytest.mark.parametrize("letter", ["x", "\U0001f409", "\\"])
def test_the_xcom_stays_small(letter: str) -> None:
    details = tuple(FileProgress(letter * 5000, ImportState.FAILED, 0, letter * 5000) for _ in range(1000))
    huge = replace(job(), reason=letter * 10**5, collection_name=letter * 10**5, details=details)
    shown = snapshot_json(Snapshot.begin(letter * 5000, BEGAN, EMPTY_CHECKPOINT).after(huge, Checkpoint()))
    assert len(json.dumps(shown)) <= MAX_JSON + 100
    assert shown["files"]
    assert shown["more"] + len(shown["files"]) == 1000


def test_signatures_of_urls_are_not_shown() -> None:
    url = "https://bucket.test/a.parquet?X-Amz-Signature=s3cr3t0123"
    details = (FileProgress(url, ImportState.FAILED, 0, f"cannot read {url}"),)
    shown = json.dumps(
        snapshot_json(
            Snapshot.begin("j", BEGAN, EMPTY_CHECKPOINT).ended(replace(job(), reason=url, details=details), BEGAN)
        )
    )
    assert "https://bucket.test/a.parquet" in shown
    assert "s3cr3t" not in shown


def test_a_job_whose_reason_must_not_be_shown_is_failed_without() -> None:
    snapshot, _ = seen_of((0, job(reason="key", details=[{"fileName": "a", "reason": "key"}])))
    assert "key" not in json.dumps(snapshot_json(snapshot.failed(BEGAN)))
    assert snapshot.failed(BEGAN).whole.state == "Failed"


def test_the_jobs_of_a_list_are_shown_with_the_failed_ones_first() -> None:
    parts = tuple(Part(f"j{n}", state) for n, state in enumerate(("Importing", "Completed", "Failed")))
    shown = snapshot_json(Snapshot(Part("3 jobs", "Importing"), BEGAN, parts=parts, parts_are="jobs"))
    assert shown["job_id"] is None
    assert [part["name"] for part in shown["jobs"]] == ["j2", "j0", "j1"]


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        [],
        {},
        {"files": 3},
        {"files": [None, 1, {}, {"name": 7}, {"name": None}]},
        {"files": {"name": "a"}},
    ],
)
def test_nothing_is_read_back_of_an_xcom_that_was_edited(value: object) -> None:
    assert parts_of(value) == ()


def test_what_is_read_back_is_what_was_written_and_no_other_types() -> None:
    part = Part("a", "Importing", 40, 1, 2, 3, reason="why")
    shown = snapshot_json(replace(Snapshot.begin("j", BEGAN, EMPTY_CHECKPOINT), parts=(part,)))
    assert parts_of(shown) == (part,)
    shown["files"][0] |= {"percent": "40", "rows": True, "state": ["x"]}
    assert parts_of(shown) == (replace(part, percent=None, rows=None, state=None),)
