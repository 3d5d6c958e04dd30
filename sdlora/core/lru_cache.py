"""A thread-safe cache that drops its least recently used entries."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class LruCache(Generic[Key, Value]):
    """Holds entries up to a total `limit` of their costs (1 each unless `cost` says otherwise), but always the newest."""

    def __init__(self, limit: int, cost: Callable[[Value], int] = lambda value: 1):
        self._limit, self._cost = limit, cost
        self._total = 0
        self._lock = threading.Lock()
        self._entries: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        """The entry, now the most recently used; None where there is none."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: Key, value: Value) -> None:
        with self._lock:
            self._drop(key)
            self._entries[key] = value
            self._total += self._cost(value)
            while self._total > self._limit and len(self._entries) > 1:
                self._drop(next(iter(self._entries)))

    def remove(self, key: Key) -> None:
        with self._lock:
            self._drop(key)

    def get_or_make(self, key: Key, make: Callable[[], Value]) -> Value:
        """The entry, made where it is missing. `make` runs outside the lock: two threads may both run it."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]
        value = make()
        self.put(key, value)
        return value

    def __len__(self) -> int:
        return len(self._entries)

    def _drop(self, key: Key) -> None:
        if key in self._entries:
            self._total -= self._cost(self._entries.pop(key))
