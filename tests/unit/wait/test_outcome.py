from __future__ import annotations

import json
import pickle
from datetime import datetime, timezone

import pytest

from airflow_zilliz._protocol.models import FileProgress, ImportProgress, ImportState
from airflow_zilliz._wait.outcome import MAX_EVENT_FILES, MAX_EVENT_TEXT, Ending, Outcome
from airflow_zilliz.exceptions import (
    ZillizApiError,
    ZillizImportFailed,
    ZillizUnavailable,
)

FAILED = ImportProgress(
    "j",
    ImportState.FAILED,
    0,
    "bad file",
    "books",
    0,
    10,
    2**40,
    details=(
        FileProgress("a.json", ImportState.FAILED, 0, "row 8"),
        FileProgress("b.json", ImportState.COMPLETED, 100),
    ),
)


@pytest.mark.parametrize("ending", list(Ending))
def test_an_event_comes_back_as_it_went(ending: Ending) -> None:
    end = Outcome(ending, "what happened", FAILED, {"code": 2100})
    back = Outcome.from_event(json.loads(json.dumps(end.as_event())))
    assert back is not None
    assert (back.ending, back.message, back.facts) == (ending, "what happened", {"code": 2100})
    assert back.progress is not None
    assert back.progress.result() == FAILED.result()
    assert back.progress.file_reasons == FAILED.file_reasons


def test_an_event_keeps_the_time_and_an_unknown_word() -> None:
    moment = datetime(2026, 11, 23, 20, 0, 5, tzinfo=timezone.utc)
    job = ImportProgress("j", ImportState.UNKNOWN, 7, complete_time=moment, raw={"state": "Odd"})
    back = Outcome.from_event(Outcome(Ending.TIMED_OUT, "late", job).as_event())
    assert back is not None
    assert back.progress is not None
    assert (back.progress.complete_time, back.progress.state_word) == (moment, "Odd")


def test_an_event_stays_small() -> None:
    details = tuple(FileProgress(f"f{n}", ImportState.FAILED, 0, "x" * 5000) for n in range(1000))
    job = ImportProgress("j", ImportState.FAILED, reason="y" * 10**6, details=details, raw={"huge": "z" * 10**6})
    event = Outcome(Ending.JOB_FAILED, "m" * 10**6, job).as_event()
    assert len(json.dumps(event)) < 2 * MAX_EVENT_TEXT + MAX_EVENT_FILES * 1200 + 1000


@pytest.mark.parametrize("event", [None, "success", {}, {"ending": "of another version"}, {"status": "success"}])
def test_an_event_that_cannot_be_read_is_no_end(event: object) -> None:
    assert Outcome.from_event(event) is None


@pytest.mark.parametrize("ending", [Ending.REACHED, Ending.JOB_FAILED])
def test_what_became_of_the_job_needs_its_description(ending: Ending) -> None:
    assert Outcome(ending, "").needs_description
    assert not Outcome(ending, "", FAILED).needs_description


def test_errors_can_be_pickled() -> None:
    for error in (
        ZillizImportFailed("failed", progress=FAILED),
        ZillizUnavailable("gone", retry_after=3),
        ZillizApiError("odd", code=5),
    ):
        back = pickle.loads(pickle.dumps(error))
        assert type(back) is type(error)
        assert (str(back), vars(back)) == (str(error), vars(error))


def test_an_event_shows_no_signature_and_no_key() -> None:
    url = "https://b/a.json?X-Amz-Signature=51960"
    job = ImportProgress("j", ImportState.FAILED, details=(FileProgress(url, ImportState.FAILED, 0, "row 8"),))
    event = Outcome.of(Ending.JOB_FAILED, f"cannot read {url} with AKIA0123456789ABCDEF", progress=job).as_event()
    assert not any(part in json.dumps(event) for part in ("X-Amz", "51960", "AKIA"))
    assert "https://b/a.json" in event["message"]


def test_an_end_without_reasons_is_one_whose_job_is_described_again() -> None:
    end = Outcome.of(Ending.JOB_FAILED, "bad file", progress=FAILED).without_reasons()
    assert (end.message, end.progress, end.needs_description) == (
        "Import job j is Failed (collection 'books')",
        None,
        True,
    )
    reached = Outcome.of(Ending.REACHED, "done", progress=FAILED)
    assert reached.without_reasons() is reached


def test_an_end_whose_texts_may_be_shown() -> None:
    end = Outcome.of(Ending.JOB_FAILED, "bad file", progress=FAILED, listed=FAILED)
    shown = end.scrubbed(lambda text: text.replace("bad", "***"))
    assert shown.message == "*** file"
    assert shown.progress is not None
    assert shown.listed is not None
    assert (shown.progress.reason, shown.listed.reason) == ("*** file", "*** file")
