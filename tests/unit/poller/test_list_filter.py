from __future__ import annotations

import pytest

from airflow_zilliz._poller.list_filter import FILTER_RETRY, MAX_COLLECTIONS, WHOLE_LIST, ListFilter

NOW = 1000.0


def known(records: int) -> ListFilter:
    one = ListFilter()
    one.on_walk(WHOLE_LIST, records, NOW)
    return one


def test_nothing_is_filtered_before_it_is_known_how_long_the_list_is() -> None:
    assert ListFilter().lists({"books": 3}, NOW) == WHOLE_LIST


@pytest.mark.parametrize(
    ("records", "waits", "lists"),
    [
        (201, {"books": 3}, ("books",)),
        (200, {"books": 3}, WHOLE_LIST),
        (401, {"books": 3, "articles": 1}, ("articles", "books")),
        (400, {"books": 3, "articles": 1}, WHOLE_LIST),
        (2000, {"books": 1000}, WHOLE_LIST),
        (2001, {"books": 1000}, ("books",)),
        (10_000, {"books": 3, None: 1}, WHOLE_LIST),
        (10_000, {None: 1}, WHOLE_LIST),
        (10_000, {}, WHOLE_LIST),
        (10_000, {"books": 3, None: 0}, ("books",)),
    ],
)
def test_collections_are_asked_for_where_most_of_the_list_is_of_others(
    records: int, waits: dict[str | None, int], lists: tuple[str | None, ...]
) -> None:
    assert known(records).lists(waits, NOW) == lists


def test_many_collections_are_not_asked_for_one_by_one() -> None:
    few: dict[str | None, int] = {f"c{number}": 1 for number in range(MAX_COLLECTIONS)}
    assert len(known(100_000).lists(few, NOW)) == MAX_COLLECTIONS
    assert known(100_000).lists({**few, "one more": 1}, NOW) == WHOLE_LIST


def test_a_filter_that_does_not_help_is_left_alone_for_a_while() -> None:
    one = known(1000)
    one.on_walk(("books",), 500, NOW)
    assert one.lists({"books": 3}, NOW) == ("books",)
    one.on_walk(("books",), 501, NOW)
    assert one.lists({"books": 3}, NOW + FILTER_RETRY - 1) == WHOLE_LIST
    assert one.lists({"books": 3}, NOW + FILTER_RETRY) == ("books",)
