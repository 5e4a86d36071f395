"""What the wait for many jobs remembers of the open ones, short enough for a trigger's arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from airflow_zilliz._wait.checkpoint import EMPTY_CHECKPOINT, Checkpoint
from airflow_zilliz._wait.packing import pack, unpack

#: The longest packed memory; beyond that, what is special about single jobs is dropped.
MAX_PACKED = 20_000
_COMMON = ("at", "collection_name", "told")
_TIMES = ("at", "trouble_since", "failed_at", "unknown_since", "polled_at", "due")
#: What is remembered of a single job, if it differs from the others.
_ODD = (*_TIMES[1:], "distrusts_list")


class Memory:
    """Each open job's checkpoint; an unknown job has only what is common to all.

    :param seen: the checkpoints
    :param value: what `packed` has of other jobs
    """

    def __init__(self, seen: Mapping[str, Checkpoint], value: Mapping[str, Any] = {}) -> None:
        self._seen = seen
        self._value = value
        self._common = Checkpoint.from_json({name: value.get(name) for name in _COMMON})
        unseen, odd = value.get("unseen"), value.get("odd")
        self._unseen = frozenset(unseen) if isinstance(unseen, list) and all(map(_is_text, unseen)) else frozenset()
        self._odd: Mapping[str, Any] = odd if isinstance(odd, Mapping) else {}

    @classmethod
    def unpacked(cls, text: object) -> Memory:
        """Return the memory in a packed text; what cannot be read is dropped."""
        value = unpack(text)
        return cls({}, value if isinstance(value, Mapping) else {})

    def of(self, job_id: str) -> Checkpoint:
        """Return a job's checkpoint."""
        if (exact := self._seen.get(job_id)) is not None:
            return exact
        seen = self._common if job_id not in self._unseen else replace(self._common, at=None)
        odd = self._odd.get(job_id)
        if not isinstance(odd, Mapping):
            return seen
        found = Checkpoint.from_json(odd)
        return replace(seen, **{name: getattr(found, name) for name in _ODD})

    def without_trouble_before(self, now: float) -> Memory:
        """Return an unpacked memory in which all trouble began at a time, epoch seconds."""
        odd = {
            job_id: {**of_job, "trouble_since": now, "polled_at": None, "due": None}
            for job_id, of_job in self._odd.items()
            if isinstance(of_job, Mapping) and of_job.get("trouble_since") is not None
        }
        return Memory(self._seen, {**self._value, "odd": {**self._odd, **odd}}) if odd else self

    def packed(self, limit: int = MAX_PACKED) -> str:
        """Return the memory as packed text of at most ``limit`` characters, if that is possible.

        It says whether each job was seen, and since when its polls fail, but not states and rows: the next poll shows
        those.
        """
        if not self._seen:
            return pack(dict(self._value))
        memories = self._seen.values()
        shown = [memory.at for memory in memories if memory.at is not None]
        value: dict[str, Any] = {"at": round(max(shown))} if shown else {}
        collections = {memory.collection_name for memory in memories}
        if len(collections) == 1 and (name := collections.pop()):
            value["collection_name"] = name
        if told := sorted({key for memory in memories for key in memory.told if not key.startswith("unknown")}):
            value["told"] = told
        if shown:
            value["unseen"] = [job_id for job_id, memory in self._seen.items() if memory.at is None]
        value["odd"] = {job_id: odd for job_id, memory in self._seen.items() if (odd := _odd(memory))}
        packed = pack(value)
        if len(packed) > limit:
            packed = pack({**value, "odd": {}})
        # a job that counts as seen is waited for a minute longer if the server does not know it
        return packed if len(packed) <= limit else pack({**value, "odd": {}, "unseen": []})


NO_MEMORY = Memory({})


def _odd(memory: Checkpoint) -> dict[str, Any]:
    in_doubt = memory.trouble_since is not None or memory.unknown_since is not None
    names: Iterable[str] = _ODD if in_doubt else ("distrusts_list",)
    found = {name: getattr(memory, name) for name in names}
    return {
        name: round(value) if name in _TIMES else value
        for name, value in found.items()
        if value != getattr(EMPTY_CHECKPOINT, name)
    }


def _is_text(value: object) -> bool:
    return isinstance(value, str)
