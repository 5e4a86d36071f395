"""What the local server decides without a socket: bodies, names, limits, versions, faults, clock and retention."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_zilliz.local import job_views
from airflow_zilliz.local.clock import Clock
from airflow_zilliz.local.control import KINDS, Control, Fault, Settings
from airflow_zilliz.local.create_request import check_files, milvus_request
from airflow_zilliz.local.go_values import extension, int64, is_duration
from airflow_zilliz.local.jobs import FileEntry, Flavor, Job, JobStore
from airflow_zilliz.local.limits import CLOUD_LIMITS, MILVUS_LIMITS
from airflow_zilliz.local.loopback import around_proxy
from airflow_zilliz.local.refusals import Refusal
from airflow_zilliz.local.request_body import RequestBody
from airflow_zilliz.local.scripts import scripted_job
from airflow_zilliz.local.testing import LocalServer
from airflow_zilliz.local.versions import NEWEST, VERSIONS, MilvusVersion


class Hands:
    """A clock's source that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# -- values of Go -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["0", "+0", "1s", "-1.5h", "1h30m", ".5s", "5.s", "1us", "1µs", "2ns3ms"])
def test_go_durations(text: str) -> None:
    assert is_duration(text)


@pytest.mark.parametrize("text", ["", " ", "1", "s", ".s", "1d", "1 s", "1h 3m", "1S", "1e3s", "+", "infs", "1s\n"])
def test_what_is_no_go_duration(text: str) -> None:
    assert not is_duration(text)


@given(st.integers(-(2**65), 2**65))
def test_int64s(number: int) -> None:
    expected = number if -(2**63) <= number < 2**63 else None
    assert int64(str(number)) == expected
    assert int64(f"+{number}") == (expected if number >= 0 else None)


@pytest.mark.parametrize(
    ("path", "found"),
    [("a.json", ".json"), ("/x.y/a", ""), ("a.tar.gz", ".gz"), (".npy", ".npy"), ("dir.json/", ""), ("a.", ".")],
)
def test_extensions(path: str, found: str) -> None:
    assert extension(path) == found


# -- bodies -------------------------------------------------------------------------------------------------------


def code_of(body: Any) -> int:
    try:
        check_files(milvus_request(RequestBody(body), {}, NEWEST), MILVUS_LIMITS, kinds=True)
    except Refusal as refusal:
        return refusal.code
    return 0


def test_half_a_surrogate_pair_is_replaced() -> None:
    body = RequestBody.parse(b'{"jobId": "\\ud800x", "other": "\\ud83d\\ude00"}')
    assert (body.text("jobId"), body.text("other")) == ("\ufffdx", "\U0001f600")
    assert RequestBody.parse(b'{"jobId": "\xff"}').text("jobid") == "\ufffd"


def test_types_come_before_what_is_missing() -> None:
    assert code_of({"files": 5}) == 1801
    assert code_of({"options": {"a": 5}}) == 1801
    assert code_of({"collectionName": "", "files": [["a.json"]]}) == 1802
    assert code_of({"collectionName": "books", "files": [["a.json"]]}) == 0


def test_options_keep_their_case() -> None:
    request = milvus_request(
        RequestBody({"collectionName": "books", "files": [[]], "OPTIONS": {"Sep": "|", "auto_commit": "FALSE"}}),
        {},
        NEWEST,
    )
    assert request.options == {"Sep": "|", "auto_commit": "false"}


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists), max_size=4))
def test_any_body_is_understood_or_refused(body: dict[str, Any]) -> None:
    assert code_of(body) in (0, 1100, 1801, 1802, 2100)


# -- limits, versions, faults -------------------------------------------------------------------------------------


def test_limits_of_sizes() -> None:
    limits = dataclasses.replace(CLOUD_LIMITS, max_file_size=10, max_request_size=15)
    assert limits.too_large([10, 5]) is None
    assert "fileSize=11, maxSize=10" in str(limits.too_large([1, 11]))
    assert "total fileSize=16, maxSize=15" in str(limits.too_large([10, 6]))
    assert MILVUS_LIMITS.too_large([]) is None


def test_the_docs_have_these_versions() -> None:
    text = (Path(__file__).parents[3] / "docs" / "local-server.md").read_text()
    table = text.partition("## Versions")[2].partition("## Databases")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    shown = {row[0]: dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows[3:]}

    def of(name: str, version: MilvusVersion) -> str:
        value = getattr(version, name)
        return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)

    expected = {
        "`describe` besides `get_progress`": "describe_routed",
        "`createTime` in a description": "has_create_time",
        "honours `Idempotency-Key`": "idempotency_keys",
        "two phases: `auto_commit`, `commit`, `abort`": "two_phases",
        "`commit` of a Completed ordinary job succeeds": "commits_completed_jobs",
        "unknown fields of JSON and CSV are skipped": "skips_unknown_fields",
        "a Parquet column may be a `fixed_size_list`": "fixed_size_lists",
        "code of an unknown job": "unknown_job_code",
        "code of a job id that is not a number": "invalid_job_id_code",
    }
    found = {text: {name: of(field, version) for name, version in VERSIONS.items()} for text, field in expected.items()}
    hours = {name: f"{version.retention / 3600:g}" for name, version in VERSIONS.items()}
    assert shown == {**found, "hours that an ended job is kept": hours}


def test_settings_are_laid_over_what_was_started() -> None:
    started = VERSIONS["2.5"]
    assert Settings().version(started) == started
    assert Settings(milvus="2.4").version(started) == VERSIONS["2.4"]
    changed = Settings(describe_routed=False, success_code=200, idempotency=True, retention=0.0).version(started)
    assert changed == dataclasses.replace(
        started, describe_routed=False, success_code=200, idempotency_keys=True, retention=0.0
    )
    assert Settings(max_jobs=0).limits(MILVUS_LIMITS) == dataclasses.replace(MILVUS_LIMITS, max_jobs=0)


@pytest.mark.parametrize(
    "value",
    [
        {"milvus": "1.0"},
        {"list_lag": -1},
        {"max_jobs": -1},
        {"max_jobs": 1.5},
        {"retention": "long"},
        {"api_key": 5},
        {"clusters": "in01"},
        {"unlisted": [5]},
        {"old_shape": 1},
        {"success_code": True},
        {"color": "red"},
    ],
)
def test_what_is_no_setting(value: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Settings().changed(value)


@pytest.mark.parametrize("value", [{"times": 0}, {"times": "3"}, {"after": -1}, {"retry_after": "soon"}, {"path": 5}])
def test_what_is_no_fault(value: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Fault.from_json({"kind": "reset", **value})


def test_the_fixture_describes_each_fault_and_setting() -> None:
    for method, kind in ((LocalServer.add_fault, Fault), (LocalServer.set, Settings)):
        for name in (field.name for field in dataclasses.fields(kind) if field.name != "kind"):
            assert f"``{name}``" in str(method.__doc__), name
            assert f":param {name}:" in str(kind.__doc__), name
    assert all(f"``{kind}``" in str(LocalServer.add_fault.__doc__) for kind in KINDS)


def test_faults_are_taken_in_turn() -> None:
    first = Fault("reset", path="create", after=1, times=2)
    second = Fault("status", status=403, path="describe", job_id="7", times=None)
    control = Control(faults=[first, second])
    found = [control.next_fault("/import/create") for _ in range(4)]
    assert [fault.kind if fault else "" for fault in found] == ["", "reset", "reset", ""]
    assert control.next_fault("/import/describe", "8") is None
    assert [control.next_fault("/import/describe", "7") for _ in range(2)] == [second, second]


def test_lists_that_lag_and_differ() -> None:
    jobs = [Job("1", created=100.0), Job("2", created=110.0), Job("3", created=90.0)]
    control = Control(settings=Settings(list_lag=10, unlisted=["3"]))
    assert [job.id for job in control.listed(jobs, 115.0)] == ["1"]
    assert [job.id for job in control.listed(jobs, 120.0)] == ["1", "2"]
    control.change(Settings(list_lag=10, lists_alternate=True))
    assert [len(control.listed(jobs, 115.0)) for _ in range(4)] == [2, 3, 2, 3]


# -- the clock, and what goes by it -------------------------------------------------------------------------------


async def test_a_clock_that_is_moved_wakes_who_sleeps() -> None:
    clock = Clock(Hands())
    sleepers = [asyncio.ensure_future(clock.sleep(seconds)) for seconds in (10, 100)]
    await asyncio.sleep(0)
    clock.advance(10)
    done, _ = await asyncio.wait(sleepers, return_when=asyncio.FIRST_COMPLETED)
    assert done == {sleepers[0]}
    clock.advance(90)
    await asyncio.gather(*sleepers)
    assert clock.now() == 1100.0
    clock.reset()
    assert clock.now() == 1000.0


def test_a_scripted_job_ends_with_its_phase() -> None:
    phases = [{"state": "Importing", "seconds": 60}, {"state": "Failed", "reason": "row 8"}]
    job = scripted_job("1", {"phases": phases, "dbName": "films"}, 1000.0)
    assert (job.at(1059).state, job.at(1059).ended) == ("Importing", None)
    assert (job.at(5000).state, job.at(5000).ended, job.db_name) == ("Failed", 1060.0, "films")


def test_an_ended_job_is_kept_for_its_retention() -> None:
    source = Hands()
    store = JobStore(clock=Clock(source))
    store.retention = lambda: 100.0
    store.add(Job("1", state="Importing"))
    store.add(Job("2", state="Uncommitted"))
    source.now = 2000.0
    store.put(dataclasses.replace(store.all()[0], state="Completed", completed=5.0))
    job = store.get("1")
    assert job is not None
    assert (job.completed, job.ended) == (2000.0, 2000.0), "by the clock that tests move"
    source.now = 2099.0
    assert len(store.all()) == 2
    source.now = 2100.0
    assert store.get("1") is None
    assert [job.id for job in store.all()] == ["2"]


def test_a_lost_job_stays_lost() -> None:
    store = JobStore()
    job = store.add(Job("1", state="Importing"))
    store.clear()
    store.put(dataclasses.replace(job, state="Completed"))
    assert store.all() == []


def test_the_store_survives_with_all_that_it_knew(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    store = JobStore(path, Clock(Hands()))
    files = (FileEntry("dir/a.json", 5, 3, 3, state="Completed"),)
    job = store.add(Job("1", state="Completed", files=files, version="2.5", db_name="films"))
    store.close()
    assert JobStore(path, Clock(Hands())).get("1") == job
    assert job.files[0].completed == 1000.0


# -- views --------------------------------------------------------------------------------------------------------


def test_details_by_flavor() -> None:
    files = (FileEntry("dir/a.json", 5, 4, 2, state="InProgress"), FileEntry("b.json", 5))
    job = Job("1", groups=(("dir/a.json",), ("b.json",)), state="Importing", progress=40, files=files)
    milvus = job_views.describe(job, Flavor.MILVUS, NEWEST)["details"]
    assert [detail["fileName"] for detail in milvus] == ["[dir/a.json]", "[b.json]"]
    assert [(detail["state"], detail["progress"], detail["importedRows"]) for detail in milvus] == [
        ("InProgress", 50, 2),
        ("Pending", 0, 0),
    ]
    assert "reason" not in milvus[0]
    cloud = job_views.describe(job, Flavor.CLOUD, NEWEST)["details"]
    assert [(detail["fileName"], detail["reason"]) for detail in cloud] == [("a.json", ""), ("b.json", "")]


def test_a_set_of_numpy_files_is_printed_as_a_list() -> None:
    job = Job(
        "1", groups=(("x/id.npy", "x/v.npy"),), state="Completed", progress=100, files=(FileEntry("id.npy v.npy"),)
    )
    assert job_views.describe(job, Flavor.MILVUS, NEWEST)["details"][0]["fileName"] == "[x/id.npy x/v.npy]"


# -- proxies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "intern.test"}, "intern.test,127.0.0.1,localhost,::1"),
        ({"no_proxy": "localhost", "NO_PROXY": "x"}, "localhost,127.0.0.1,::1"),
    ],
)
def test_this_machine_is_excepted_from_proxies(before: dict[str, str], after: str) -> None:
    assert around_proxy(before) == {"no_proxy": after, "NO_PROXY": after}
