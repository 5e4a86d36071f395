from __future__ import annotations

from airflow_zilliz._submit.dataset import FileGroup, PlannedJob
from airflow_zilliz._submit.ledger import Entry, Ledger, Stage
from airflow_zilliz._tasks.dataset_account import account


def test_the_rate_of_a_retry_counts_its_own_files_alone() -> None:
    jobs = [PlannedJob((FileGroup((f"{number}.json",)),)) for number in range(10)]
    entries = [Entry(Stage.COMPLETED, try_number=1)] * 7 + [Entry(Stage.COMPLETED, try_number=2), *[Entry()] * 2]
    ledger = Ledger(tuple(jobs), tuple(entries))
    assert account(ledger, since=60.0, try_number=2).endswith("0.0167 files/s, about 2 min left")
    assert account(ledger, since=1.0, try_number=3).endswith(
        "2 jobs with 2 files are not sent, or not known to be running"
    )
