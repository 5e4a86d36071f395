"""The control routes, which tests use to change the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from typing import Any

from aiohttp import web

from airflow_zilliz.local.control import Fault, Settings
from airflow_zilliz.local.scripts import scripted_job
from airflow_zilliz.local.server_state import ServerState

CONTROL = "/_control"


class ControlRoutes:
    """Changes a `ServerState` over HTTP.

    :param drop_late: cancels the requests that are to take effect later
    """

    def __init__(self, state: ServerState, drop_late: Callable[[], None]) -> None:
        self._state = state
        self._control = state.control
        self._drop_late = drop_late

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        for name, verb in {
            "jobs": self._add_job,
            "faults": self._add_fault,
            "settings": self._set,
            "script": self._set_script,
            "clock": self._advance,
        }.items():
            app.router.add_post(f"{CONTROL}/{name}", _checked(verb))
        app.router.add_post(CONTROL + "/jobs/{job_id}", _checked(self._add_job))
        app.router.add_delete(CONTROL + "/jobs/{job_id}", self._forget)
        app.router.add_get(f"{CONTROL}/requests", self._requests)
        app.router.add_delete(CONTROL + "/{what}", self._reset)

    def _add_job(self, request: web.Request, value: dict[str, Any]) -> dict[str, Any]:
        """Add a scripted job, or give one other phases."""
        job_id = request.match_info.get("job_id")
        named = value | ({"jobId": job_id} if job_id else {})
        job = scripted_job(self._state.flavor.new_job_id(), named, self._state.clock.now())
        return {"jobId": self._state.store.add(job).id}

    def _add_fault(self, request: web.Request, value: dict[str, Any]) -> dict[str, Any]:
        self._control.faults.append(Fault.from_json(value))
        return {}

    def _set(self, request: web.Request, value: dict[str, Any]) -> dict[str, Any]:
        self._control.change(self._control.settings.changed(value))
        return asdict(replace(self._control.settings, api_key=None))

    def _set_script(self, request: web.Request, value: dict[str, Any]) -> dict[str, Any]:
        """Make every job that is created from now on a scripted one."""
        self._control.script = scripted_job("", value, self._state.clock.now())
        return {}

    def _advance(self, request: web.Request, value: dict[str, Any]) -> dict[str, Any]:
        """Move the clock forward."""
        if value.keys() != {"seconds"}:
            raise ValueError("the clock takes seconds, and nothing else")
        self._state.clock.advance(value["seconds"])
        return {"now": self._state.clock.now()}

    async def _requests(self, request: web.Request) -> web.Response:
        return web.json_response(list(self._control.requests))

    async def _forget(self, request: web.Request) -> web.Response:
        """Lose a job, as retention does."""
        return web.json_response({"forgotten": self._state.store.forget(request.match_info["job_id"])})

    async def _reset(self, request: web.Request) -> web.Response:
        what = request.match_info["what"]
        resets: dict[str, Callable[[], None]] = {
            "faults": self._clear_faults,
            "settings": lambda: self._control.change(Settings()),
            "script": self._clear_script,
            "requests": self._control.requests.clear,
            "jobs": self._state.store.clear,
            "clock": self._state.clock.reset,
        }
        for reset in resets.values() if what == "all" else filter(None, [resets.get(what)]):
            reset()
        return web.json_response({})

    def _clear_faults(self) -> None:
        self._control.clear_faults()
        self._drop_late()

    def _clear_script(self) -> None:
        self._control.script = None


def _checked(
    verb: Callable[[web.Request, dict[str, Any]], dict[str, Any]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        try:
            return web.json_response(verb(request, dict(await request.json())))
        except (ValueError, TypeError, AttributeError) as err:
            return web.json_response({"error": str(err)}, status=400)

    return handle
