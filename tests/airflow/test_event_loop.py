from __future__ import annotations

import asyncio
import time


def test_a_blocked_loop_is_noticed(no_blocked_loop: list[str]) -> None:
    """The guard that every other test runs under can fail."""

    async def block() -> None:
        time.sleep(0.05)  # noqa: ASYNC251 - the very thing that must not be

    asyncio.run(block())
    assert len(no_blocked_loop) == 1
    assert "took 0.0" in no_blocked_loop.pop()
