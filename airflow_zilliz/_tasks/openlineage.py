"""What OpenLineage receives of an import, if its provider is installed; nothing depends on it."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from airflow_zilliz._protocol.models import ImportProgress, ImportState
from airflow_zilliz._protocol.scrubbing import mask_patterns
from airflow_zilliz._protocol.target import Target
from airflow_zilliz._transport.endpoint import Endpoint

OPENLINEAGE = "airflow.providers.openlineage"
_CONTAINER_SCHEMES = frozenset({"abfs", "abfss", "wasb", "wasbs"})
# object names may hold a number sign, which begins no fragment here
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(?:([^/?@]*)@)?([^/?@]+)([^?]*)")


@dataclass(frozen=True)
class Lineage:
    """Which files went into which collection. A dataset is a pair of namespace and name.

    :param source: the server's address
    :param rows: imported rows, with ``size`` in bytes; None if the server did not send them or the import failed
    :param error: why the wait failed
    """

    source: str
    job_id: str
    inputs: tuple[tuple[str, str], ...]
    output: tuple[str, str] | None
    rows: int | None = None
    size: int | None = None
    error: str | None = None


def has_openlineage() -> bool:
    """Whether the OpenLineage provider is installed."""
    try:
        return importlib.util.find_spec(OPENLINEAGE) is not None
    except ModuleNotFoundError:
        return False


def lineage_of(
    endpoint: Endpoint, target: Target, job: ImportProgress, paths: Iterable[str] = (), error: str | None = None
) -> Lineage:
    """Return the lineage of a job.

    :param target: where the job lives, merged with what the connection says
    :param paths: the requested files; without them, those that the job names
    :param error: why the wait failed; without it, a Failed job has its reason
    """
    if error is None and job.state is ImportState.FAILED:
        error = job.reason or "no reason"
    server = urlsplit(endpoint.base_url)
    place = target.cluster_id or "/".join(filter(None, (target.project_id, target.region_id)))
    namespace = f"zilliz://{place}" if place else f"milvus://{server.netloc}"
    files = tuple(paths) or tuple(part.file_name for part in job.details if part.file_name)
    collection = job.collection_name
    return Lineage(
        source=endpoint.base_url,
        job_id=job.job_id,
        inputs=tuple(_dataset(path, namespace) for path in files),
        output=(namespace, f"{target.db_name or 'default'}.{collection}") if collection else None,
        rows=job.imported_rows if error is None else None,
        size=job.file_size if error is None else None,
        error=error,
    )


def _dataset(path: str, namespace: str) -> tuple[str, str]:
    """Return a file's dataset: a URL's own place without what follows a question mark, which may be a signature."""
    url = _URL.match(mask_patterns(path))
    if url is None:
        return namespace, mask_patterns(path)
    scheme, user, place, name = url.groups()
    # Azure has a container where other schemes have a user and perhaps a password
    container = f"{user}@" if user and ":" not in user and scheme.lower() in _CONTAINER_SCHEMES else ""
    return f"{scheme}://{container}{place}", name.lstrip("/") or "/"


def operator_lineage(*lineages: Lineage) -> Any:
    """Return the provider's own value for one job or many: each file and each collection once, rows and sizes added."""
    from airflow.providers.common.compat.openlineage import facet
    from airflow.providers.openlineage.extractors import OperatorLineage

    outputs = []
    for namespace, name in dict.fromkeys(lineage.output for lineage in lineages if lineage.output is not None):
        loaded = [one for one in lineages if one.output == (namespace, name) and one.rows is not None]
        facets: dict[str, Any] = {}
        if loaded:
            sizes = [one.size for one in loaded if one.size is not None]
            facets["outputStatistics"] = facet.OutputStatisticsOutputDatasetFacet(
                rowCount=sum(one.rows or 0 for one in loaded), size=sum(sizes) if sizes else None
            )
        outputs.append(facet.OutputDataset(namespace=namespace, name=name, outputFacets=facets))
    run_facets: dict[str, Any] = {}
    if len(lineages) == 1:
        (only,) = lineages
        run_facets["externalQuery"] = facet.ExternalQueryRunFacet(externalQueryId=only.job_id, source=only.source)
    if errors := [lineage.error for lineage in lineages if lineage.error is not None]:
        run_facets["errorMessage"] = facet.ErrorMessageRunFacet(
            message=errors[0] if len(errors) == 1 else f"{len(errors):,} imports failed, the first one: {errors[0]}",
            programmingLanguage="zilliz bulk import",
        )
    inputs = dict.fromkeys(dataset for lineage in lineages for dataset in lineage.inputs)
    return OperatorLineage(
        inputs=[facet.InputDataset(namespace=namespace, name=name) for namespace, name in inputs],
        outputs=outputs,
        run_facets=run_facets,
    )
