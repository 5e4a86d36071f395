"""The clock of the tests' own event loop."""

from __future__ import annotations

import time

import pytest

from tests.helpers import loops
from tests.helpers.loops import DebugLoop


def test_the_loop_s_clock_begins_as_the_system_s_and_stands_still_while_the_process_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Tasks:
        def is_dir(self) -> bool:
            return True

        def iterdir(self) -> list[Thread]:
            return [Thread()]

    class Thread:
        name = "1"

        def __truediv__(self, name: str) -> Thread:
            return self

        def read_text(self) -> str:
            return f"0 {waited * 10**9} 0"

    waited = 22
    monkeypatch.setattr(loops, "_TASKS", Tasks())
    loop = DebugLoop()
    try:
        began = loop.time()
        assert began == pytest.approx(time.monotonic(), abs=1)
        waited += 5
        assert loop.time() == began, "it does not go back"
    finally:
        loop.close()
