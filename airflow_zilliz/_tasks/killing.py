"""What becomes of an import whose task is killed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEFERRED = "deferred"


def commits_by_itself(options: object) -> bool:
    """Whether an import is an ordinary one, which no known server can stop (wire 1.1)."""
    value = options.get("auto_commit") if isinstance(options, Mapping) else None
    return str(value).strip().lower() != "false"


def was_killed(states: Mapping[str, Mapping[str, Any]], run_id: str, task_id: str, map_index: int) -> bool:
    """Whether a deferred task was ended by somebody, rather than handed to another triggerer.

    :param states: the states of the run's tasks, as Airflow's ``get_task_states`` returns them
    """
    found = states.get(run_id, {})
    name = f"{task_id}_{map_index}" if map_index is not None and map_index >= 0 else task_id
    # an answer without the task tells nothing: whoever wants the job gone can still abort it
    return name in found and str(found[name]).rsplit(".", 1)[-1].lower() != DEFERRED
