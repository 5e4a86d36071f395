from __future__ import annotations

from typing import Any

import pytest

from airflow_zilliz._protocol.models import FileProgress, ImportProgress, ImportState
from airflow_zilliz._protocol.target import Target
from airflow_zilliz._tasks.openlineage import Lineage, has_openlineage, lineage_of, operator_lineage
from airflow_zilliz._transport.endpoint import Endpoint

MILVUS = Endpoint("zilliz_default", "http://milvus.example:19530")
CLOUD = Endpoint("zilliz_default", "https://api.cloud.zilliz.com")
FILES = tuple(FileProgress(name, ImportState.COMPLETED, 100) for name in ("a.parquet", "b.parquet"))


def job(**changes: Any) -> ImportProgress:
    fields: dict[str, Any] = {
        "collection_name": "books",
        "imported_rows": 10,
        "file_size": 400,
        "details": FILES,
        "raw": {},
        **changes,
    }
    return ImportProgress("j-1", ImportState.COMPLETED, **fields)


def test_files_go_into_a_collection() -> None:
    found = lineage_of(MILVUS, Target(), job())
    namespace = "milvus://milvus.example:19530"
    assert found.inputs == ((namespace, "a.parquet"), (namespace, "b.parquet"))
    assert found.output == (namespace, "default.books")
    assert (found.rows, found.size, found.error) == (10, 400, None)


@pytest.mark.parametrize(
    ("target", "output"),
    [
        (Target(cluster_id="in01-1", db_name="shop"), ("zilliz://in01-1", "shop.books")),
        (Target(project_id="p", region_id="r"), ("zilliz://p/r", "default.books")),
    ],
)
def test_a_collection_of_zilliz_cloud_is_named_by_its_cluster_or_project(target: Target, output: Any) -> None:
    assert lineage_of(CLOUD, target, job()).output == output


def test_a_url_is_its_bucket_and_key_without_a_signature() -> None:
    paths = ["s3://bucket/day/a.parquet", "https://user:pw@host:9000/bucket/b.json?sig=secret"]
    found = lineage_of(CLOUD, Target(cluster_id="in01-1"), job(), paths)
    assert found.inputs == (("s3://bucket", "day/a.parquet"), ("https://host:9000", "bucket/b.json"))


@pytest.mark.parametrize(
    ("path", "dataset"),
    [
        (
            "abfss://books@account.dfs.core.windows.net/day/a.parquet",
            ("abfss://books@account.dfs.core.windows.net", "day/a.parquet"),
        ),
        ("wasbs://books@account.blob.core.windows.net", ("wasbs://books@account.blob.core.windows.net", "/")),
        ("abfss://user:pw@account/a", ("abfss://account", "a")),
        ("s3://bucket/day#1/a#b.parquet", ("s3://bucket", "day#1/a#b.parquet")),
        ("https://host/a.parquet#sig=secret", ("https://host", "a.parquet")),
        ("s3://conn@bucket/a b.parquet", ("s3://bucket", "a b.parquet")),
        ("day/a.parquet?X-Amz-Signature=51960", ("zilliz://in01-1", "day/a.parquet?X-Amz-Signature=***")),
        ("https://[::1]:9000/b/a", ("https://[::1]:9000", "b/a")),
    ],
)
def test_containers_and_number_signs_belong_to_the_name(path: str, dataset: tuple[str, str]) -> None:
    assert lineage_of(CLOUD, Target(cluster_id="in01-1"), job(), [path]).inputs == (dataset,)


def test_a_failed_import_has_its_error_and_no_rows() -> None:
    found = lineage_of(MILVUS, Target(), job(), error="row 8 is broken")
    assert (found.rows, found.size, found.error) == (None, None, "row 8 is broken")


def test_a_job_without_a_collection_has_no_output() -> None:
    assert lineage_of(MILVUS, Target(), job(collection_name=None)).output is None


@pytest.mark.skipif(not has_openlineage(), reason="the OpenLineage provider is not installed")
def test_the_provider_s_own_value() -> None:
    lineage = Lineage("http://m:1", "j-1", (("s3://b", "a"),), ("milvus://m:1", "default.books"), 10, 400, "broken")
    reported = operator_lineage(lineage)
    assert [(found.namespace, found.name) for found in reported.inputs] == [("s3://b", "a")]
    (output,) = reported.outputs
    assert (output.name, output.outputFacets["outputStatistics"].rowCount) == ("default.books", 10)
    assert reported.run_facets["externalQuery"].externalQueryId == "j-1"
    assert reported.run_facets["errorMessage"].message == "broken"
