"""Whether to request a target's job list by collection, and whether that helped. No I/O, no clock."""

from __future__ import annotations

import math
from collections.abc import Mapping

from airflow_zilliz._protocol.constants import LIST_PAGE_SIZE

#: Each collection costs a request.
MAX_COLLECTIONS = 4
#: The filter is not documented everywhere: if it did not help, it is tried again after so many seconds.
FILTER_RETRY = 3600.0

#: What a walk requests: the lists of some collections, or, as None, that of all.
Lists = tuple[str | None, ...]
WHOLE_LIST: Lists = (None,)


class ListFilter:
    """What is known of one target's job list by collection."""

    def __init__(self) -> None:
        self._records = 0
        self._off_until = -math.inf

    def lists(self, waits: Mapping[str | None, int], now: float) -> Lists:
        """Return what a walk should request.

        :param waits: how many waits each collection has, None being the unknown ones
        """
        if len(waits) > MAX_COLLECTIONS + 1:
            return WHOLE_LIST  # there may be as many collections as waits: no pass over all of them
        names = [name for name in waits if name is not None]
        useful = max(sum(waits.values()), LIST_PAGE_SIZE * len(names))
        is_known = 0 < len(names) <= MAX_COLLECTIONS and not waits.get(None)
        if not is_known or now < self._off_until or self._records <= 2 * useful:
            return WHOLE_LIST
        return tuple(sorted(names))

    def on_walk(self, lists: Lists, records: int, now: float) -> None:
        """Note how many records a walk had."""
        if lists == WHOLE_LIST:
            self._records = records
        elif 2 * records > self._records:
            self.on_useless(now)

    def on_useless(self, now: float) -> None:
        """Note that the server did not filter, or that its filter hides jobs."""
        self._off_until = now + FILTER_RETRY
