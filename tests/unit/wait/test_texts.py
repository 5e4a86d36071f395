"""What texts about jobs share."""

from __future__ import annotations

import pytest

from airflow_zilliz._wait.texts import plural


@pytest.mark.parametrize(("number", "text"), [(0, "0 jobs"), (1, "1 job"), (2, "2 jobs"), (1000, "1,000 jobs")])
def test_a_number_with_its_noun(number: int, text: str) -> None:
    assert plural(number, "job") == text
