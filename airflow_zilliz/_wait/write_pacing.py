"""Decides when the progress of waits is written: on change, and not too often. No I/O, and no clock of its own."""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from airflow_zilliz._wait.snapshot import Snapshot

#: The pauses between two writes of one wait, and between any two of a process, in seconds.
WAIT_INTERVAL = 30.0
PROCESS_INTERVAL = 0.5
#: After a write that failed: a triggerer's supervisor retries each several times, and does nothing else meanwhile.
FAILURE_PAUSE = 60.0
_NOTHING = (0, None)
K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class WritePacing:
    """One wait's writes.

    :param written: the last written snapshot; None for none
    :param written_at: when a write was last tried
    """

    written: Snapshot | None = None
    written_at: float = -math.inf

    def due(self, snapshot: Snapshot, now: float) -> float | None:
        """Return when a snapshot is to be written, None if it has nothing new."""
        if self.written is not None and self.written.facts == snapshot.facts:
            return None
        return max(now, self.written_at + WAIT_INTERVAL)

    def is_due(self, snapshot: Snapshot, now: float) -> bool:
        """Whether a snapshot is to be written now."""
        due = self.due(snapshot, now)
        return due is not None and due <= now

    def wrote(self, snapshot: Snapshot, now: float) -> None:
        """Note that a snapshot is written."""
        self.written, self.written_at = snapshot, now

    def failed(self, snapshot: Snapshot, now: float) -> bool:
        """Note that a snapshot could not be written, and return whether to retry."""
        self.written_at = now
        return self.written is None or self.written.states != snapshot.states


class WriteQueue(Generic[K]):
    """All writes of one process: only the latest snapshot of each wait, and the one that waited longest first."""

    def __init__(self) -> None:
        self._pacing: dict[K, WritePacing] = {}
        #: with its place in the order
        self._pending: dict[K, tuple[int, Snapshot]] = {}
        self._order: list[tuple[float, int, K]] = []
        self._count = 0
        self._free_at = -math.inf

    def begin(self, key: K, written: Snapshot, now: float) -> None:
        """Add a wait; if another process of it has seen the job, that process has just written a snapshot."""
        self.end(key)
        self._pacing[key] = WritePacing(written, now) if written.whole.state is not None else WritePacing()

    def offer(self, key: K, snapshot: Snapshot, now: float) -> None:
        """Queue a wait's snapshot, in the place of an older one; never that of an ended wait."""
        pacing = self._pacing.get(key)
        if pacing is None:
            return
        due = pacing.due(snapshot, now)
        if due is None:
            self._pending.pop(key, None)  # it equals the written one
            return
        if key in self._pending:
            number = self._pending[key][0]
        else:
            self._count = number = self._count + 1
            heapq.heappush(self._order, (due, number, key))
        self._pending[key] = number, snapshot

    def end(self, key: K) -> None:
        """Remove an ended wait: its task writes the end."""
        self._pacing.pop(key, None)
        self._pending.pop(key, None)

    def next_at(self) -> float:
        """Return when the next snapshot is to be written, infinity for none."""
        while self._order and self._pending.get(self._order[0][2], _NOTHING)[0] != self._order[0][1]:
            heapq.heappop(self._order)
        return max(self._order[0][0], self._free_at) if self._order else math.inf

    def take(self, now: float) -> tuple[K, Snapshot] | None:
        """Return the snapshot to write now, if any."""
        if self.next_at() > now:
            return None
        _, _, key = heapq.heappop(self._order)
        self._free_at = now + PROCESS_INTERVAL
        return key, self._pending.pop(key)[1]

    def wrote(self, key: K, snapshot: Snapshot, now: float) -> None:
        """Note that a snapshot is written."""
        if (pacing := self._pacing.get(key)) is not None:
            pacing.wrote(snapshot, now)

    def failed(self, key: K, snapshot: Snapshot, now: float) -> None:
        """Note that a snapshot could not be written: a new state is retried, mere progress is dropped."""
        self._free_at = now + FAILURE_PAUSE
        pacing = self._pacing.get(key)
        if pacing is not None and pacing.failed(snapshot, now) and key not in self._pending:
            self.offer(key, snapshot, now)
