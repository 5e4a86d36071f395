"""The place of a request's job on Zilliz Cloud: a cluster, or a project and region."""

from __future__ import annotations

from airflow_zilliz.local.jobs import Job
from airflow_zilliz.local.refusals import Refusal
from airflow_zilliz.local.request_body import RequestBody

PLACE_KEYS = ("clusterId", "projectId", "regionId")


def place_of(body: RequestBody, clusters: list[str] | None) -> dict[str, str]:
    """Return the place of a request to Zilliz Cloud.

    :param clusters: the known clusters; None for all
    :raises Refusal: no place, both kinds, only half of one, or an unknown cluster
    """
    place = {name: text for name in PLACE_KEYS if (text := body.text(name))}
    if "clusterId" in place and len(place) > 1:
        raise Refusal(80000, "Incorrect parameter: clusterId and projectId or regionId are exclusive")
    if not place:
        raise Refusal(96025, "Empty clusterId")
    if "clusterId" not in place and len(place) != 2:
        raise Refusal(80000, "Incorrect parameter: projectId and regionId are both required")
    if clusters is not None and place.get("clusterId", clusters[0] if clusters else "") not in clusters:
        raise Refusal(96018, "Cluster not found")
    return place


def is_at(job: Job, place: dict[str, str]) -> bool:
    """Return whether a request for this place may see the job; one without a place is everywhere."""
    return not job.place or job.place == place
