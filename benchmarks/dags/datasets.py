"""A dataset of as many jobs as the run's parameter says: in one task, all jobs or 10 at once, and in mapped tasks."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import dag, task

from airflow_zilliz.operators import ZillizImportDatasetOperator, ZillizImportOperator

FILES_PER_JOB = 100
HOW = {"task_id": "load", "collection_name": "books", "deferrable": True, "timeout": timedelta(hours=2)}


def files_of(job: int) -> list[list[str]]:
    return [[f"books/{job:04}-{number:04}.parquet"] for number in range(FILES_PER_JOB)]


@task
def files(params: dict | None = None) -> list[list[str]]:
    return [group for job in range(params["jobs"]) for group in files_of(job)]


@task
def files_of_jobs(params: dict | None = None) -> list[list[list[str]]]:
    return [files_of(job) for job in range(params["jobs"])]


def dataset(dag_id: str, max_active_jobs: int) -> None:
    @dag(dag_id=dag_id, schedule=None, params={"jobs": 50})
    def one_task():
        ZillizImportDatasetOperator(
            files=files(), max_files_per_job=FILES_PER_JOB, max_active_jobs=max_active_jobs, **HOW
        )

    one_task()


dataset("dataset_warm_up", 10)
dataset("dataset_10", 10)
dataset("dataset_all", 1000)


@dag(schedule=None, params={"jobs": 50}, max_active_tasks=1000)
def mapped_imports():
    ZillizImportOperator.partial(**HOW).expand(files=files_of_jobs())


mapped_imports()
