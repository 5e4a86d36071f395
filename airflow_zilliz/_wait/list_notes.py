"""Which log lines many jobs produce, so that 1,000 jobs with the same trouble log two lines. No I/O, no clock."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass

Note = tuple[int, str]

#: The shortest time between two lines of progress, in seconds.
LINE_EVERY = 60.0
#: How long lines of a kind are collected after the first one, in seconds; it doubles up to the longest.
GATHERED, LONGEST_GATHERED = 60.0, 1800.0


@dataclass(slots=True)
class _Kind:
    due: float
    pause: float = GATHERED
    jobs: int = 0
    last: Note = (logging.INFO, "")


class ListNotes:
    """The lines still to be logged. The first line of each kind is logged at once, and others are counted for a while.

    Two lines are of one kind if they differ only in numbers, or in what follows the first colon.

    :param first_line_at: when the first line of progress is due, epoch seconds
    :param line: the one that an earlier process has logged
    """

    def __init__(self, first_line_at: float, line: str = "") -> None:
        self._lines: list[Note] = []
        self._kinds: dict[str, _Kind] = {}
        self._line, self._line_due = line, first_line_at

    def say(self, level: int, text: str) -> None:
        """Log a single line."""
        self._lines.append((level, text))

    def gather(self, job_id: str, notes: Iterable[Note], now: float) -> None:
        """Add the lines of one job's wait."""
        for note in notes:
            key = re.sub(r"\d+", "#", note[1].replace(job_id, "#").partition(":")[0])
            if (kind := self._kinds.get(key)) is None:
                self._kinds[key] = _Kind(now + GATHERED)
                self._lines.append(note)
            else:
                kind.jobs, kind.last = kind.jobs + 1, note

    def progress(self, text: str, line: str, now: float) -> None:
        """Log a line of progress if something changed.

        :param text: the part of the line whose change counts
        """
        self._line_due = now + LINE_EVERY
        if text != self._line:
            self._line = text
            self._lines.append((logging.INFO, line))

    @property
    def last_line(self) -> tuple[str, float]:
        """The last line of progress, and when the next one is due, for another process."""
        return self._line, self._line_due

    def progress_is_due(self, now: float) -> bool:
        """Whether a line of progress may be logged."""
        return now >= self._line_due

    def take(self, now: float) -> tuple[Note, ...]:
        """Return the lines to log now."""
        for kind in self._kinds.values():
            if kind.jobs and now >= kind.due:
                level, text = kind.last
                self._lines.append((level, f"{text} (the last of {kind.jobs:,} more lines like this)"))
                kind.jobs, kind.pause = 0, min(2 * kind.pause, LONGEST_GATHERED)
                kind.due = now + kind.pause
        lines, self._lines = self._lines, []
        return tuple(lines)
