"""Zilliz Cloud's other routes: its clusters, and its jobs of any kind."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from airflow_zilliz._protocol.constants import CLUSTERS
from airflow_zilliz.local import job_views
from airflow_zilliz.local.refusals import Refusal
from airflow_zilliz.local.server_state import ServerState

_JOBS = "/v2/jobs"
_ANY_CLUSTER = "in01-local"


class CloudRoutes:
    """``GET`` of clusters and jobs."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_get(CLUSTERS, self._clusters)
        app.router.add_get(CLUSTERS + "/{cluster_id}", self._cluster)
        app.router.add_get(_JOBS + "/{job_id}", self._job)

    async def _clusters(self, request: web.Request) -> web.StreamResponse:
        names = self._state.control.settings.clusters or [_ANY_CLUSTER]
        clusters = [self._described(request, name) for name in names]
        return _success({"count": len(clusters), "currentPage": 1, "pageSize": 10, "clusters": clusters})

    async def _cluster(self, request: web.Request) -> web.StreamResponse:
        name, known = request.match_info["cluster_id"], self._state.control.settings.clusters
        if known is not None and name not in known:
            raise Refusal(96018, "Cluster not found")
        return _success(self._described(request, name))

    async def _job(self, request: web.Request) -> web.StreamResponse:
        job = self._state.store.get(request.match_info["job_id"])
        if job is None:
            raise Refusal(96026, "Job not found")
        return _success(job_views.cloud_job(job))

    def _described(self, request: web.Request, name: str) -> dict[str, Any]:
        return {
            "clusterId": name,
            "clusterName": name,
            "description": "",
            "regionId": "local",
            "plan": "Dedicated",
            "cuType": "Performance-optimized",
            "cuSize": 1,
            "status": "RUNNING",
            "connectAddress": f"http://{request.host}",
            "projectId": "proj-local",
        }


def _success(data: dict[str, Any]) -> web.Response:
    return web.json_response({"code": 0, "data": data})
