"""The pause of a task whose import the server had no room for, before it sends the import again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, NoReturn, Protocol

from airflow_zilliz._tasks.base import BACKSTOP_MARGIN

#: The shortest mean pause before an import is sent again after "too many jobs".
MIN_ROOM_PAUSE = 10.0


class PausingTask(Protocol):
    """What a task needs in order to pause."""

    deferrable: bool

    @property
    def defer(self) -> Callable[..., NoReturn]:
        """Airflow's own."""


def room_pause(poke_interval: float, left: float) -> float:
    """Return the seconds of a pause, drawn at random so that tasks are not in step.

    :param left: the seconds until the task times out
    """
    return min(left, random.uniform(0.5, 1.5) * max(poke_interval, MIN_ROOM_PAUSE))  # noqa: S311 - it keeps no secret


def pause(task: PausingTask, seconds: float, kwargs: Mapping[str, Any]) -> None:
    """Pause, without a worker if the task is deferrable: Airflow then resumes it with ``execute_again``.

    :param kwargs: the arguments of ``execute_again``
    """
    if not task.deferrable:
        time.sleep(seconds)
        return
    from airflow_zilliz.triggers import ZillizPauseTrigger  # here, since a worker that waits needs no trigger

    task.defer(
        trigger=ZillizPauseTrigger(until=time.time() + seconds),
        method_name="execute_again",
        kwargs=dict(kwargs),
        timeout=timedelta(seconds=seconds) + BACKSTOP_MARGIN,
    )
