from __future__ import annotations

from airflow_zilliz._poller.subscription import Subscription, Subscriptions
from airflow_zilliz._protocol.models import ImportProgress, ImportState
from tests.helpers.subscriptions import subscription


def job(collection: str | None) -> ImportProgress:
    return ImportProgress("j-0", ImportState.IMPORTING, collection_name=collection)


def test_waits_for_one_job_hang_together_until_the_last_one_leaves() -> None:
    all_of_them = Subscriptions()
    first, second, third = same = [subscription() for _ in range(3)]
    for one in same:
        all_of_them.add(one)
    assert len(all_of_them) == 3
    assert all_of_them.of("j-0") == [third, second, first]
    all_of_them.remove(second)
    assert all_of_them.of("j-0") == [third, first]
    all_of_them.remove(third)
    assert all_of_them.of("j-0") == [first]
    assert "j-0" in all_of_them
    all_of_them.remove(first)
    assert "j-0" not in all_of_them
    assert all_of_them.of("j-0") == []
    assert not all_of_them.listed
    assert not all_of_them.collections
    assert len(all_of_them) == 0


def test_a_new_wait_has_yet_to_read_its_job_s_record() -> None:
    all_of_them = Subscriptions()
    all_of_them.add(subscription())
    all_of_them.listed["j-0"] = {"state": "Importing"}
    all_of_them.add(subscription())
    assert all_of_them.listed == {"j-0": None}


def test_the_shortest_interval_counts() -> None:
    all_of_them = Subscriptions()
    for interval in (30.0, 5.0, 60.0):
        all_of_them.add(subscription(poke_interval=interval))
    assert all_of_them.shortest_interval == 5.0


def test_collections_are_counted_as_far_as_they_are_known() -> None:
    all_of_them, one, other = Subscriptions(), subscription("j-0"), subscription("j-1")
    all_of_them.add(one)
    all_of_them.add(other)
    assert all_of_them.collections == {None: 2}
    all_of_them.note_collection(one, job("books"))
    all_of_them.note_collection(one, job(None))
    assert all_of_them.collections == {None: 1, "books": 1}
    all_of_them.note_collection(other, job("books"))
    assert all_of_them.collections == {"books": 2}
    all_of_them.remove(one)
    assert all_of_them.collections == {"books": 1}


def test_waits_may_leave_while_one_goes_through_all() -> None:
    all_of_them, many = Subscriptions(), [subscription(f"j-{number // 2}") for number in range(6)]
    for one in many:
        all_of_them.add(one)
    found: list[Subscription] = []
    for one in all_of_them:
        if not found:
            all_of_them.remove(many[2])
            all_of_them.remove(many[3])
        found.append(one)
    assert found == [many[1], many[0], many[5], many[4]]
