"""Milvus's REST routes for databases, as far as imports need them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from airflow_zilliz.local.create_request import database_of
from airflow_zilliz.local.engine import DatabaseRefused, EngineMissing
from airflow_zilliz.local.refusals import Refusal, database_not_found
from airflow_zilliz.local.request_body import RequestBody
from airflow_zilliz.local.server_state import ServerState

_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]{0,254}")
_Verb = Callable[[RequestBody, Mapping[str, str]], Awaitable[Any]]


class DatabaseRoutes:
    """The routes below ``/v2/vectordb/databases``, and the list of a database's collections."""

    def __init__(self, state: ServerState) -> None:
        self._engine = state.engine

    def verbs(self) -> dict[str, _Verb]:
        """Return the handler of each path."""
        return {
            "/v2/vectordb/databases/create": self._create,
            "/v2/vectordb/databases/drop": self._drop,
            "/v2/vectordb/databases/list": self._list,
            "/v2/vectordb/databases/describe": self._describe,
            "/v2/vectordb/collections/list": self._collections,
        }

    async def _create(self, body: RequestBody, headers: Mapping[str, str]) -> dict[str, Any]:
        name = body.required_text("dbName")
        if _NAME.fullmatch(name) is None:
            raise Refusal(802, f"invalid database name[database={name[:255]}]")
        await _with_engine(self._engine.create_database, name)
        return {}

    async def _drop(self, body: RequestBody, headers: Mapping[str, str]) -> dict[str, Any]:
        name = body.required_text("dbName")
        await self._check(name)
        await _with_engine(self._engine.drop_database, name)
        return {}

    async def _list(self, body: RequestBody, headers: Mapping[str, str]) -> list[str]:
        names: list[str] = await _with_engine(self._engine.databases)
        return names

    async def _describe(self, body: RequestBody, headers: Mapping[str, str]) -> dict[str, Any]:
        name = body.required_text("dbName")
        await self._check(name)
        properties: dict[str, Any] = await _with_engine(self._engine.database_properties, name)
        shown = [{"key": key, "value": str(value)} for key, value in properties.items()]
        return {"dbID": 1 + (await self._list(body, headers)).index(name), "dbName": name, "properties": shown}

    async def _collections(self, body: RequestBody, headers: Mapping[str, str]) -> list[str]:
        name = database_of(body, headers)
        await self._check(name)
        names: list[str] = await _with_engine(self._engine.collections, name)
        return names

    async def _check(self, name: str) -> None:
        if not await _with_engine(self._engine.has_database, name):
            raise database_not_found(name)


async def _with_engine(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)
    except EngineMissing as err:
        raise Refusal(1, f"service not ready: {err}") from None
    except DatabaseRefused as err:
        raise Refusal(65535, str(err)) from None
