"""Writes the log lines of waits in a thread, those of many waits at once.

A trigger's log is a pipe to its triggerer's supervisor, and writing into a full pipe blocks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from airflow_zilliz._wait.state_machine import Decision
from airflow_zilliz._wait.texts import IGNORED


class TaskLog(Protocol):
    """The owner of the log that a wait's lines go to."""

    def log_notes(self, step: Decision) -> None:
        """Log the notes of a decision."""


@dataclass(frozen=True)
class _Line:
    owner: TaskLog
    step: Decision
    context: Context  # by which Airflow knows whose log it is
    written: asyncio.Future[None]


@dataclass
class _Writer:
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


_writers: WeakKeyDictionary[asyncio.AbstractEventLoop, _Writer] = WeakKeyDictionary()


async def log_notes(owner: TaskLog, step: Decision) -> None:
    """Log a decision's notes, and return once they are written: a task's log may be closed after its trigger's end."""
    loop = asyncio.get_running_loop()
    writer = _writers.setdefault(loop, _Writer())
    written = loop.create_future()
    writer.lines.append(_Line(owner, step, copy_context(), written))
    if writer.writing is None or writer.writing.done():
        writer.writing = Context().run(asyncio.ensure_future, writer.write())
    await written


async def log(logger: Any, level: int, text: str, *values: object) -> None:
    """Log a line that belongs to no decision, also in a thread."""
    await asyncio.to_thread(logger.log, level, text, *values)


async def log_ignored(logger: Any, names: list[str]) -> None:
    """Log the arguments of a newer version, if there are any."""
    if names:
        await log(logger, logging.WARNING, IGNORED, ", ".join(names))


def _write(lines: Iterable[_Line]) -> list[tuple[_Line, Exception | None]]:
    outcomes: list[tuple[_Line, Exception | None]] = []
    for line in lines:
        try:
            line.context.run(line.owner.log_notes, line.step)
        except Exception as err:  # noqa: BLE001 - it is raised where the line came from
            outcomes.append((line, err))
        else:
            outcomes.append((line, None))
    return outcomes
