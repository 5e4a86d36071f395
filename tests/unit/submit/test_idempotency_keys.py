from __future__ import annotations

import pytest

from airflow_zilliz._protocol.constants import is_idempotency_key
from airflow_zilliz._submit.idempotency_keys import chained_key, former_key_of, key_of


def test_a_key_names_the_task_and_what_is_imported() -> None:
    assert key_of("dag", "manual__1", "task", digest="0af3") == "airflow/dag/manual__1/task/0af3"
    assert key_of("dag", "manual__1", "task", 3, digest="0af3") == "airflow/dag/manual__1/task/3/0af3"


@pytest.mark.parametrize("name", ["größe", "x" * 300])
def test_names_that_no_server_takes_are_hashed(name: str) -> None:
    assert len(key_of(name, digest="0af3")) == len("airflow/") + 64
    assert key_of(name, digest="0af3") != key_of(name, digest="0af4")


def test_the_key_of_version_0_1_had_no_digest() -> None:
    assert former_key_of("dag", "manual__1", "task") == "airflow/dag/manual__1/task"


@pytest.mark.parametrize("length", [1, 200, 254, 255, 256])
def test_every_key_of_a_chain_is_one_that_servers_take(length: int) -> None:
    keys = [chained_key("k" * length, turn) for turn in range(1, 60)]
    assert keys[0] == "k" * length
    assert len(set(keys)) == len(keys)
    assert all(map(is_idempotency_key, keys))


def test_chains_of_long_keys_that_differ_at_their_end_differ() -> None:
    assert chained_key("k" * 255 + "a", 2) != chained_key("k" * 255 + "b", 2)


def test_a_chain_of_a_short_key_shows_it() -> None:
    assert chained_key("books", 2) == "books~2"
