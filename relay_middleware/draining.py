"""
Draining: an answer under way is limited from the moment on that its client goes.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Self, cast

from relay_middleware.asgi import ClientWatch
from relay_middleware.core.identifiers import CustomerId
from relay_middleware.services import Drains


class Draining:
    """
    A context in which one answer is received. Raises TimeoutError where its client has gone, and
    the time is up in which it is read all the same (DESIGN 5.13).

    As `asyncio.timeout` whose end is not known yet, which takes 1.7 µs where this takes 0.7, by
    themselves (measured).
    """

    def __init__(
        self,
        watch: ClientWatch,
        drains: Drains,
        customer_id: CustomerId,
        on_gone: Callable[[], bool],
    ) -> None:
        """
        Args:
            on_gone: Called when the client goes; says whether the answer is read on, for as long as
                there is a place for it.
        """  # fmt: skip
        self._watch = watch
        self._drains = drains
        self._customer_id = customer_id
        self._on_gone = on_gone
        self._task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._cancelling = self._task.cancelling()
        self._seconds = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._has_ended = False

    def __enter__(self) -> Self:
        self._watch.when_gone(self._begin)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._watch.when_gone(None)
        if self._timer is not None:
            self._timer.cancel()
        if self._seconds:
            self._drains.leave(self._customer_id)
        if self._has_ended:
            is_ours = self._task.uncancel() <= self._cancelling
            if is_ours and kind is asyncio.CancelledError:
                raise TimeoutError

    def _begin(self) -> None:
        if self._on_gone():
            self._seconds = self._drains.enter(self._customer_id)
        self._timer = self._task.get_loop().call_later(self._seconds, self._end)

    def _end(self) -> None:
        # The task is suspended in the context: that is where the cancellation arrives.
        self._has_ended = True
        self._task.cancel()
