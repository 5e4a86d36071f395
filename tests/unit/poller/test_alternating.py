"""Hours in which one of the two ways to poll fails: the other one serves the waits, and nobody is flooded."""

from __future__ import annotations

import pytest

from airflow_zilliz._transport import rate_limiter
from airflow_zilliz._wait.outcome import Ending
from airflow_zilliz._wait.state_machine import Decision
from airflow_zilliz.hooks import ZillizHook
from tests.helpers import virtual
from tests.helpers.virtual import Server, Trouble
from tests.unit.poller.test_poller_property import Plan, Story, endpoint, live

HOURS = 2
WORDS = ("Could not poll", "responds again", "fail again", "cannot be used")


@pytest.mark.parametrize("kind", ["503", "lost", "429", "429 with Retry-After"])
@pytest.mark.parametrize("path", ["describe", "list"])
@pytest.mark.parametrize("waits", [1, 3, 30])
def test_what_responds_serves_the_waits_and_what_fails_is_tried_now_and_then(
    monkeypatch: pytest.MonkeyPatch, waits: int, path: str, kind: str
) -> None:
    server = Server(troubles=[Trouble(1100, HOURS * 3600, kind, path)])
    plans = [Plan(arrival=0.5 * number, runs_for=HOURS * 3600 - 300) for number in range(waits)]
    lines: dict[str, list[str]] = {f"job-{number}": [] for number in range(waits)}

    def log_notes(story: Story, step: Decision) -> None:
        lines[story.job.id] += [text for _, text in step.notes if any(word in text for word in WORDS)]

    monkeypatch.setattr(Story, "log_notes", log_notes)
    monkeypatch.setattr(ZillizHook, "aendpoint", endpoint)
    rate_limiter.forget_limits()
    stories = virtual.run(live(server, plans), server, monkeypatch)
    for story in stories:
        assert story.end is not None
        assert story.end.ending is Ending.REACHED
        late = 45 if "429" in kind else 35
        assert story.ended - story.job.end <= late, "an interval, its turn, and the pause that a refusal brings"
        logged = lines[story.job.id]
        assert sum("Could not poll" in line for line in logged) <= 1
        assert len(logged) <= 3, logged
    if path == "describe":
        assert sum(map(bool, lines.values())) >= min(waits, 10), "it is not hidden from those that are described"
    failed = [at for sent, times in server.sent.items() if sent.endswith(path) for at in times if at > 1100 + 600]
    assert len(failed) <= (60 + 15 * waits) * HOURS, "once a minute for all, and each wait once in 20 intervals"
