from __future__ import annotations

from bisect import bisect_right

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_zilliz._transport.endpoint import Endpoint
from airflow_zilliz._transport.rate_limiter import (
    CUT_PER_RATE,
    CUT_SECONDS,
    DOUBLING_SECONDS,
    FIRST_CUT,
    FIRST_RESPONSES,
    FIRST_SHARE,
    FLOOR,
    GROWTH,
    LEAST_GROWTH,
    MAX_CUT,
    SLOW_GROWTH,
    RateLimiter,
    account_of,
    limiter_of,
)

CEILING = 10.0


def limiter(draw: float = 0.5) -> RateLimiter:
    return RateLimiter(lambda: draw)


def grown(draw: float = 0.5, ceiling: float = CEILING) -> RateLimiter:
    """A limiter that has come to its ceiling, at 100."""
    one = limiter(draw)
    one.reserve(100.0 - 2 * DOUBLING_SECONDS, ceiling)
    for _ in range(FIRST_RESPONSES):
        one.on_response(100.0)
    return one


def refuse(one: RateLimiter, now: float, ceiling: float = CEILING) -> None:
    one.on_refusal(now, now, ceiling)


def test_sending_times_are_spaced() -> None:
    assert [grown().reserve(100.0, CEILING) for _ in range(1)] == [0]
    one = grown()
    assert [one.reserve(100.0, CEILING) for _ in range(3)] == pytest.approx([0, 0.1, 0.2])


def test_callers_with_other_limits_share_the_line() -> None:
    one = grown()
    assert [one.reserve(100.0, rate) for rate in (10, 2, 10)] == pytest.approx([0, 0.1, 0.6])


def test_requests_that_go_out_together_take_the_time_of_each() -> None:
    one = grown()
    one.take(100.0, CEILING, 5)
    assert one.free_in(100.0) == pytest.approx(0.5)


def test_a_pause_is_not_saved_up() -> None:
    one = grown()
    one.reserve(100.0, CEILING)
    assert [one.reserve(200.0, CEILING) for _ in range(2)] == pytest.approx([0, 0.1])


def test_a_process_begins_with_a_part_of_its_ceiling_and_doubles_that() -> None:
    one = limiter()
    one.reserve(100.0, CEILING)
    assert one.rate(100.0, CEILING) == pytest.approx(FIRST_SHARE * CEILING)
    assert one.rate(100.0 + DOUBLING_SECONDS, CEILING) == pytest.approx(2 * FIRST_SHARE * CEILING)
    assert one.rate(100.0 + 2 * DOUBLING_SECONDS, CEILING) == CEILING
    assert one.rate(10.0**9, CEILING) == CEILING


def test_a_process_that_needs_more_begins_with_that() -> None:
    one = limiter()
    one.expect(7.0)
    one.reserve(100.0, CEILING)
    assert one.rate(100.0, CEILING) == 7.0


def test_a_refusal_among_the_first_responses_means_that_many_began_together() -> None:
    one = limiter()
    one.reserve(100.0, CEILING)
    one.on_response(100.1)
    refuse(one, 100.1)
    assert one.rate(100.1, CEILING) == pytest.approx(FIRST_SHARE * CEILING * (1 - FIRST_CUT), rel=0.01)


def test_a_later_refusal_takes_more_the_higher_the_rate_is() -> None:
    fast, slow = grown(), grown(ceiling=2.0)
    refuse(fast, 100.0)
    refuse(slow, 100.0, 2.0)
    assert fast.rate(100.0, CEILING) == pytest.approx(CEILING * (1 - MAX_CUT))
    assert slow.rate(100.0, 2.0) == pytest.approx(2 * (1 - 2 * CUT_PER_RATE))


def test_what_could_not_be_used_is_not_given_back() -> None:
    one = grown()
    one.take(100.0, CEILING, at_most=5.0)
    refuse(one, 100.0)
    assert one.rate(100.0, CEILING) == pytest.approx(5 * (1 - MAX_CUT))


def test_a_high_rate_comes_back_sooner() -> None:
    one = grown(ceiling=100.0)
    refuse(one, 100.0, 100.0)
    before = one.rate(100.0, 100.0)
    assert one.rate(101.0, 100.0) - before == pytest.approx(GROWTH * before**2, rel=0.01)


def test_requests_that_are_refused_together_count_once() -> None:
    one = grown()
    for _ in range(5):
        one.on_refusal(100.0, 99.9, CEILING)
    refuse(one, 100.0 + CUT_SECONDS / 2)
    one.on_refusal(110.0, 99.0, CEILING)
    assert one.rate(100.0, CEILING) == pytest.approx(CEILING * (1 - MAX_CUT))


def test_nothing_is_sent_right_after_a_refusal() -> None:
    one = grown()
    refuse(one, 100.0)
    assert one.free_in(100.0) == pytest.approx(1 / (CEILING * (1 - MAX_CUT)))


def test_a_server_that_refuses_everything_gets_ever_fewer_requests_until_it_responds() -> None:
    one = grown()
    for second in range(100):
        refuse(one, 100.0 + 2 * second)
    assert one.rate(298.0, CEILING) == pytest.approx(FLOOR)
    assert one.refused_for(298.0) == pytest.approx(198)
    one.on_response(299.0)
    assert one.refused_for(300.0) == 0
    assert one.rate(298.0 + 10, CEILING) == pytest.approx(4 * FLOOR)
    assert one.rate(298.0 + 31, CEILING) == pytest.approx(CEILING * (1 - MAX_CUT), rel=0.1)


def test_a_rate_that_is_not_refused_comes_back() -> None:
    one = grown()
    for second in range(20):
        one.on_response(100.0 + 2 * second)
        refuse(one, 100.0 + 2 * second)
    low = one.rate(138.0, CEILING)
    assert low < 2.5
    assert one.rate(168.0, CEILING) == pytest.approx(low + 30 * LEAST_GROWTH + SLOW_GROWTH * 0.5**3)
    assert one.rate(138.0 + 300, CEILING) == CEILING


def test_a_pause_that_the_server_asks_for_is_kept() -> None:
    one = grown()
    one.on_refusal(100.0, 100.0, CEILING, retry_after=7)
    one.on_refusal(101.5, 101.5, CEILING)
    assert one.paused_for(103.0) == pytest.approx(4)
    assert one.free_in(103.0) == pytest.approx(4)
    assert one.paused_for(107.5) == 0


@pytest.mark.parametrize(("draw", "part"), [(0.0, 0.95), (1.0, 1.05)])
def test_below_the_ceiling_processes_fall_out_of_step(draw: float, part: float) -> None:
    one = limiter(draw)
    one.reserve(100.0, CEILING)
    assert one.reserve(100.0, CEILING) == pytest.approx(part / (FIRST_SHARE * CEILING))


def test_a_limit_belongs_to_a_key_and_a_path() -> None:
    endpoint = Endpoint("c", "http://pacing.test", "key")
    assert limiter_of(endpoint, "/list") is limiter_of(Endpoint("other", "http://pacing.test", "key"), "/list")
    assert limiter_of(endpoint, "/list") is not limiter_of(endpoint, "/describe")
    assert limiter_of(endpoint, "/list") is not limiter_of(Endpoint("c", "http://pacing.test", "key-2"), "/list")
    assert limiter_of(endpoint, "/list") is not limiter_of(Endpoint("c", "http://other.test", "key"), "/list")


def test_no_key_can_be_read_from_what_a_limit_belongs_to() -> None:
    assert "topsecret" not in repr(account_of(Endpoint("c", "http://pacing.test", "topsecret")))


events = st.lists(
    st.tuples(st.floats(0, 20), st.sampled_from(["send", "send", "send", "answer", "refusal", "pause"])), max_size=200
)


@given(events=events, ceiling=st.sampled_from([0.5, 2.0, 10.0, 100.0]), draw=st.floats(0, 1))
@settings(deadline=None)
def test_whatever_happens_the_ceiling_holds_and_sending_never_stops(
    events: list[tuple[float, str]], ceiling: float, draw: float
) -> None:
    one, now = limiter(draw), 1000.0
    sent = [now + one.reserve(now, ceiling)]
    for pause, kind in events:
        now += pause
        if kind == "send":
            sent.append(now + one.reserve(now, ceiling))
        elif kind == "answer":
            one.on_response(now)
        else:
            one.on_refusal(now, now, ceiling, 5.0 if kind == "pause" else None)
        assert min(FLOOR, FIRST_SHARE * ceiling) <= one.rate(now, ceiling) <= ceiling
        assert one.paused_for(now) <= 5 + 1e-6
    assert sent == sorted(sent)
    for index, at in enumerate(sent):
        assert bisect_right(sent, at + 1 - 1e-9) - index <= ceiling + 1
    assert one.rate(now + 600, ceiling) >= min(ceiling, 10)
