"""Runs a scenario once for every combination of up to so many faults: enumerated, never sampled.

A scenario asks `Choices` for every fault that could happen. The first option of each is the ordinary course; the others
are faults. `enumerate_runs` runs it with no fault, then with each single one, then with each pair, and so on: each
combination once, so that the first run that shows a violation has as few faults as it takes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass
class Choices:
    """The choices of one run: those of ``prefix`` first, and the first option of each after that."""

    prefix: tuple[int, ...] = ()
    taken: list[tuple[int, int]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def choose(self, what: str, options: tuple[T, ...]) -> T:
        position = len(self.taken)
        chosen = self.prefix[position] if position < len(self.prefix) else 0
        self.taken.append((chosen, len(options)))
        if chosen:
            self.faults.append(f"{what}: {options[chosen]}")
        return options[chosen]


def enumerate_runs(scenario: Callable[[Choices], T], most_faults: int) -> Iterator[tuple[Choices, T]]:
    """Run the scenario for all combinations of up to ``most_faults`` faults, fewest first."""
    waiting: deque[tuple[tuple[int, ...], int]] = deque([((), 0)])
    while waiting:
        prefix, faults = waiting.popleft()
        choices = Choices(prefix)
        yield choices, scenario(choices)
        if faults == most_faults:
            continue
        indices = [chosen for chosen, _ in choices.taken]
        for position in range(len(prefix), len(choices.taken)):
            for other in range(1, choices.taken[position][1]):
                waiting.append(((*indices[:position], other), faults + 1))
