from __future__ import annotations

import asyncio
import math

import pytest

from airflow_zilliz._transport.rate_limiter import RateLimiter
from airflow_zilliz._transport.request_queue import EAGER_SHARE, REFRESH_SHARE, Need, RequestQueue, Turn, Turns
from airflow_zilliz.exceptions import ZillizUnavailable
from tests.helpers.virtual import VirtualLoop

CEILING = 10.0
NOW = 1000.0


def turns(*needs: Need, together: int = 1) -> Turns:
    found = Turns()
    loop = asyncio.new_event_loop()
    for need in needs:
        found.add(Turn(need, CEILING, together, loop.create_future()))
    loop.close()
    return found


def order(queue: Turns, now: float = NOW) -> list[Need]:
    found = []
    while (turn := queue.pop(now)) is not None:
        found.append(turn.need)
    return found


def test_who_is_late_by_more_of_its_pace_goes_first() -> None:
    old, young, youngest = Need(NOW - 60, 30.0), Need(NOW - 6, 2.0), Need(NOW - 1, 2.0)
    assert order(turns(old, young, youngest)) == [young, old, youngest]


def test_of_the_equally_urgent_who_came_first_goes_first() -> None:
    needs = [Need(NOW - 1, 2.0) for _ in range(3)]
    assert order(turns(*needs)) == needs


def test_a_pace_of_nothing_is_no_infinite_urgency() -> None:
    assert Need(NOW - 1, 0.0).urgency(NOW) == pytest.approx(10)


def test_refreshes_go_last_and_take_a_small_part_of_the_rate() -> None:
    first, second, other = Need(NOW - 900, 1.0, is_refresh=True), Need(NOW, 1.0, is_refresh=True), Need(NOW, 30.0)
    queue = turns(first, second, other)
    assert order(queue) == [other, first]
    assert queue.next_at(NOW) == NOW + 1 / (REFRESH_SHARE * CEILING)
    assert order(queue, NOW + 1 / (REFRESH_SHARE * CEILING)) == [second]
    assert queue.next_at(NOW) == math.inf


def test_refreshes_that_are_late_may_take_half_of_the_rate_and_still_go_last() -> None:
    first, second = (Need(NOW, 1.0, is_refresh=True, is_late=True) for _ in range(2))
    other = Need(NOW, 30.0)
    queue = turns(first, second, other)
    assert order(queue) == [other, first]
    assert queue.next_at(NOW) == NOW + 1 / (EAGER_SHARE * CEILING)


def test_polls_sooner_than_asked_for_take_half_of_the_rate_until_they_are_due() -> None:
    early, soon, due = (Need(NOW - 5, 2.0, eager_until=NOW + later) for later in (20, 0.1, -1))
    queue = turns(early, soon, due, together=2)
    assert order(queue) == [early, due]
    assert queue.next_at(NOW) == pytest.approx(NOW + 0.1), "it is due before its kind may be sent again"
    assert order(queue, NOW + 0.1) == [soon]
    late = turns(Need(NOW, 2.0, eager_until=NOW + 20), Need(NOW, 2.0, eager_until=NOW + 20), together=2)
    assert len(order(late)) == 1
    assert late.next_at(NOW) == pytest.approx(NOW + 2 / (EAGER_SHARE * CEILING))
    assert len(order(late, NOW + 2 / (EAGER_SHARE * CEILING))) == 1


def test_what_is_removed_is_not_sent() -> None:
    queue = turns(Need(NOW, 2.0))
    (turn,) = queue.all()
    queue.remove(turn)
    queue.remove(turn)
    assert not queue
    assert queue.pop(NOW) is None


def grown() -> RateLimiter:
    limiter = RateLimiter(lambda: 0.5)
    limiter.take(0.0, CEILING)
    return limiter


def test_requests_are_let_go_at_the_rate_and_the_urgent_overtake() -> None:
    loop, sent = VirtualLoop(), list[tuple[str, float]]()

    async def send(queue: RequestQueue, name: str, pace: float, arrives: float = 0.0) -> None:
        await asyncio.sleep(arrives)
        await queue.turn(Need(loop.now, pace), CEILING)
        sent.append((name, round(loop.now - 1000, 3)))

    async def main() -> None:
        queue = RequestQueue(grown())
        old = [send(queue, f"old {number}", 30.0) for number in range(5)]
        await asyncio.gather(*old, send(queue, "young", 0.5, 0.15))

    loop.run_until_complete(main())
    loop.close()
    assert sent == [("old 0", 0.0), ("old 1", 0.1), ("young", 0.2), ("old 2", 0.3), ("old 3", 0.4), ("old 4", 0.5)]


@pytest.mark.parametrize(("eager_for", "at_most"), [(20.0, EAGER_SHARE * CEILING), (-20.0, math.inf)])
def test_the_limit_knows_what_polls_sooner_than_asked_for_may_use(eager_for: float, at_most: float) -> None:
    loop = VirtualLoop()

    async def main() -> RateLimiter:
        queue = RequestQueue(grown())
        await queue.turn(Need(loop.now, 2.0, eager_until=loop.now + eager_for), CEILING)
        return queue.limiter

    assert loop.run_until_complete(main())._at_most == at_most
    loop.close()


def test_who_gives_up_takes_nobody_s_turn() -> None:
    loop = VirtualLoop()

    async def main() -> float:
        queue = RequestQueue(grown())
        tasks = [asyncio.create_task(queue.turn(Need(loop.now, 30.0), CEILING)) for _ in range(5)]
        await asyncio.sleep(0.05)
        for task in tasks[1:4]:
            task.cancel()
        await tasks[4]
        return loop.now

    assert loop.run_until_complete(main()) == pytest.approx(1000.1)
    loop.close()


def test_a_long_pause_reaches_all_that_wait() -> None:
    loop = VirtualLoop()
    error = ZillizUnavailable("HTTP 429", http_status=429, retry_after=60)

    async def main() -> list[object]:
        queue = RequestQueue(grown())
        queue.limiter.on_refusal(loop.now, loop.now, CEILING, 60)
        tasks = [asyncio.create_task(queue.turn(Need(loop.now, 30.0), CEILING)) for _ in range(3)]
        await asyncio.sleep(1)
        queue.fail(error)
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    assert loop.run_until_complete(main()) == [error] * 3
    loop.close()
