"""How often a cache of a topology misses, once it is full."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from pytest_aefm.mesh.steps import Cache

__all__ = ["lru_miss_ratio", "miss_ratio"]

_HALVINGS = 100


def miss_ratio(cache: Cache) -> float:
    """Return the share of requests that do a cache's ``miss``: 1 where the keys are the requests' own, and unknown."""
    if cache.hit_ratio is not None:
        return 1.0 - cache.hit_ratio
    if cache.keys is None or cache.capacity is None:
        return 1.0
    return lru_miss_ratio(cache.capacity, cache.keys, cache.skew)


@lru_cache
def lru_miss_ratio(capacity: int, keys: int, skew: float) -> float:
    """Return the share of misses of an LRU cache of ``capacity`` keys, of ``keys`` drawn independently by Zipf's law.

    Che's approximation (Che, Tung and Wang 2002): a key is there if it was drawn within the characteristic time, the
    time in which as many keys are drawn as there is room for.
    """
    if capacity >= keys:
        return 0.0
    popularity = np.arange(1, keys + 1, dtype=float) ** -skew
    popularity /= popularity.sum()
    low, high = 0.0, capacity / popularity[-1]
    for _ in range(_HALVINGS):
        time = (low + high) / 2
        if -np.expm1(-popularity * time).sum() < capacity:
            low = time
        else:
            high = time
    return float((popularity * np.exp(-popularity * low)).sum())
