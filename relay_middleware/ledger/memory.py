"""
What was read from SQL, remembered: bounded, and forgotten as a whole.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=str)
Value = TypeVar("Value")

CAPACITY = 10_000
"""Names remembered, and again as many that are known not to exist: a flood of unknown names cannot
push out the known ones."""


class Memory(Generic[Key, Value]):
    """
    Remembers what *load* answers, the latest used `CAPACITY` names. For one event loop.
    """

    def __init__(self, load: Callable[[Key], Awaitable[Value | None]]) -> None:
        self._load = load
        self._known: OrderedDict[Key, Value] = OrderedDict()
        self._unknown: OrderedDict[Key, None] = OrderedDict()
        self._loading: dict[Key, asyncio.Task[Value | None]] = {}
        self._generation = 0

    async def get(self, key: Key) -> Value | None:
        """
        Return what *load* says of *key*, asking it only at first sight, and once for all who wait.
        """
        value = self._known.get(key)
        if value is not None:
            self._known.move_to_end(key)
            return value
        if key in self._unknown:
            self._unknown.move_to_end(key)
            return None
        task = self._loading.get(key)
        if task is None:
            task = self._loading[key] = asyncio.create_task(self._fetch(key, self._generation))
        # One of those who wait may be cancelled; the others still want the answer.
        return await asyncio.shield(task)

    async def _fetch(self, key: Key, generation: int) -> Value | None:
        try:
            value = await self._load(key)
        finally:
            if self._generation == generation:
                del self._loading[key]
        # What was read before everything was forgotten may be what was meant to be forgotten.
        if self._generation == generation:
            self.put(key, value)
        return value

    def put(self, key: Key, value: Value | None) -> None:
        """Remember *value*; None: that there is none."""
        if value is None:
            _put(self._unknown, key, None)
            self._known.pop(key, None)
        else:
            _put(self._known, key, value)
            self._unknown.pop(key, None)

    def known(self, key: Key) -> Value | None:
        """Return what is remembered of *key*, without asking."""
        return self._known.get(key)

    def drop(self, key: Key) -> None:
        """Forget *key*: the next one who asks for it has it read."""
        self._known.pop(key, None)
        self._unknown.pop(key, None)

    def forget(self) -> None:
        """Forget everything, what is being read too."""
        self._generation += 1
        self._known.clear()
        self._unknown.clear()
        self._loading.clear()


Item = TypeVar("Item")


def _put(names: OrderedDict[Key, Item], key: Key, item: Item) -> None:
    names[key] = item
    names.move_to_end(key)
    if len(names) > CAPACITY:
        names.popitem(last=False)
