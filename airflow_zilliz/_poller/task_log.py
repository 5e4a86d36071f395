"""Writes what waits have to tell in a thread, many waits' lines in one go.

A trigger's log is a pipe to its triggerer's supervisor, and writing into a full one blocks whoever writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from airflow_zilliz._wait.state_machine import Decision


class Teller(Protocol):
    """Whoever has the log that a wait's steps are told in."""

    def tell(self, step: Decision) -> None:
        """Log what a step says."""


@dataclass(frozen=True)
class _Line:
    teller: Teller
    step: Decision
    context: Context  # tells Airflow whose log it is
    written: asyncio.Future[None]


@dataclass
class _Pen:
    lines: list[_Line] = field(default_factory=list)
    writing: asyncio.Task[None] | None = None

    async def write(self) -> None:
        while self.lines:
            lines, self.lines = self.lines, []
            for line, error in await asyncio.to_thread(_write, lines):
                if line.written.done():
                    continue
                if error is None:
                    line.written.set_result(None)
                else:
                    line.written.set_exception(error)


_pens: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pen] = WeakKeyDictionary()


async def tell(teller: Teller, step: Decision) -> None:
    """Let a step be told, and return once it is: a task's log may be closed when its trigger has ended."""
    loop = asyncio.get_running_loop()
    pen = _pens.setdefault(loop, _Pen())
    written = loop.create_future()
    pen.lines.append(_Line(teller, step, copy_context(), written))
    if pen.writing is None or pen.writing.done():
        pen.writing = Context().run(asyncio.ensure_future, pen.write())
    await written


async def log(logger: Any, level: int, text: str, *values: object) -> None:
    """Log a line that belongs to no step, off the loop as well."""
    await asyncio.to_thread(logger.log, level, text, *values)


def _write(lines: Iterable[_Line]) -> list[tuple[_Line, Exception | None]]:
    outcomes: list[tuple[_Line, Exception | None]] = []
    for line in lines:
        try:
            line.context.run(line.teller.tell, line.step)
        except Exception as err:  # noqa: BLE001 - it is raised where the line came from
            outcomes.append((line, err))
        else:
            outcomes.append((line, None))
    return outcomes
