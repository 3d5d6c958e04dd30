"""The cache: least recently used entries go first, by number or by cost, and None is a value like others."""

from __future__ import annotations

from sdlora.core.lru_cache import LruCache


def test_the_least_recently_used_goes_first() -> None:
    cache: LruCache[str, int] = LruCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)
    cache.put("a", 4)
    assert (cache.get("a"), len(cache)) == (4, 2)
    cache.remove("a")
    cache.remove("a")
    assert (cache.get("a"), len(cache)) == (None, 1)


def test_costs_are_summed_and_the_newest_always_stays() -> None:
    cache: LruCache[str, str] = LruCache(5, cost=len)
    cache.put("a", "xxx")
    cache.put("b", "xx")
    assert len(cache) == 2
    cache.put("a", "xxxx")
    assert cache.get("b") is None
    cache.put("c", "x" * 100)
    assert (cache.get("a"), len(cache)) == (None, 1)
    cache.put("d", "x")
    assert (cache.get("c"), cache.get("d")) == (None, "x")


def test_made_once_even_where_it_is_none() -> None:
    cache: LruCache[str, int | None] = LruCache(2)
    calls: list[str] = []

    def make() -> None:
        calls.append("made")

    assert cache.get_or_make("a", make) is None
    assert cache.get_or_make("a", make) is None
    assert calls == ["made"]
