from __future__ import annotations

import json
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_zilliz._protocol import big_json
from airflow_zilliz._protocol.big_json import _SteppingDecoder, loads
from airflow_zilliz._protocol.responses import BIG_BYTES, Response

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(values)
def test_what_is_read_step_by_step_is_the_same(value: object) -> None:
    assert _SteppingDecoder().decode(json.dumps(value)) == value


@pytest.mark.parametrize("text", ["", "{", '{"a": [1, 2}', "[1,]", "nothing", '{"a": 1} x'])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        _SteppingDecoder().decode(text)


def test_another_thread_runs_while_a_long_list_is_read() -> None:
    records = [{"jobId": str(number), "collectionName": "books", "state": "InProgress"} for number in range(100_000)]
    body = json.dumps({"code": 0, "data": {"records": records}}).encode()
    assert len(body) > BIG_BYTES
    found: list[object] = []
    reading = threading.Thread(target=lambda: found.append(loads(body)))
    gaps, last = [], time.perf_counter()
    reading.start()
    while reading.is_alive():
        time.sleep(0.001)  # gives the lock up, as an event loop does
        gaps.append(time.perf_counter() - last)
        last = time.perf_counter()
    assert found[0] == {"code": 0, "data": {"records": records}}
    assert len(gaps) >= 5, "it would have been one gap"


def test_short_responses_are_read_at_once_and_long_ones_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(big_json, "loads", lambda body: {"big": len(body)})
    assert Response(200, b'{"a": 1}', {}).json_object() == {"a": 1}
    assert Response(200, b" " * (BIG_BYTES + 1), {}).json_object() == {"big": BIG_BYTES + 1}
