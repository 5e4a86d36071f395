"""A trigger's side of its subscription: how it receives decisions, and how it leaves."""

from __future__ import annotations

import asyncio
from typing import Protocol

from airflow_zilliz._poller.subscription import Subscription
from airflow_zilliz._wait.state_machine import ImportWait


class Subscriber(Subscription):
    """One trigger's subscription.

    Both sides are one object, since thousands of triggers start together, and each of their objects brings the next
    garbage collection of Airflow's whole heap nearer.
    """

    __slots__ = ("_waker", "error", "holder")

    def __init__(self, wait: ImportWait, not_before: float) -> None:
        super().__init__(wait, not_before)
        #: the poller or look-up that it has to leave
        self.holder: Holder | None = None
        self.error: BaseException | None = None
        self._waker: asyncio.Future[None] | None = None

    def changes(self) -> asyncio.Future[None]:
        """Return a future that is done once there are decisions to take, or may be some.

        :raises ZillizError: the connection cannot be looked up or used
        """
        if self.error is not None:
            raise self.error.with_traceback(None)  # it may be raised in thousands of triggers
        self._waker = asyncio.get_running_loop().create_future()
        if self.steps:
            self.wake()
        return self._waker

    def fail(self, error: BaseException) -> None:
        """Raise an error in the trigger."""
        self.error = error
        self.wake()

    def wake(self) -> None:
        """Wake the trigger."""
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)


class Holder(Protocol):
    """What holds subscribers until they leave."""

    def leave(self, subscriber: Subscriber) -> None:
        """Remove a subscriber."""
