"""Imports whose workers die, or whose tasks fail after them: on every Airflow."""

from __future__ import annotations

from datetime import timedelta

import dying
from airflow.providers.common.compat.sdk import dag

from airflow_zilliz import operators
from airflow_zilliz._submit.record import Patience
from airflow_zilliz.operators import ZillizImportOperator

# the local server shows in a moment what it has to show
operators.PATIENCE = Patience(pauses=(0.5, 0.5, 1.0, 2.0), settle=3.0)


def die_at_first(context):
    if context["ti"].try_number == 1:
        dying.arm(context["params"]["point"], context["ti"])


def fail_at_first(context, result=None):
    if context["ti"].try_number == 1:
        raise RuntimeError("a typo of the user's")


def load(**arguments):
    ZillizImportOperator(
        task_id="load",
        collection_name="{{ params.collection }}",
        files=[["a.parquet"]],
        timeout=timedelta(minutes=10),
        poke_interval=1,
        retries=2,
        retry_delay=timedelta(seconds=1),
        **arguments,
    )


@dag(schedule=None, params={"point": "", "collection": ""}, max_active_runs=8)
def mortal():
    load(pre_execute=die_at_first)


@dag(schedule=None, params={"collection": ""}, max_active_runs=8)
def fails_after_execute():
    load(post_execute=fail_at_first)


mortal()
fails_after_execute()
