"""What can be said of doses on this machine before anything is deployed: can it make and hold them, and how soon?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

from pytest_aefm import interference
from pytest_aefm.errors import AefmError, ConfigurationError, InterferenceError
from pytest_aefm.model import InterferenceSpec
from pytest_aefm.testbeds.machine import cache_bytes, memory_room_bytes, plan_cores

__all__ = ["filling_s", "refusals"]


def refusals(specs: Sequence[InterferenceSpec], held_bytes: int = 0) -> Iterator[tuple[str, AefmError]]:
    """Yield (kind, error) for each disturbance that this machine cannot make, and for memory that does not fit.

    ``held_bytes`` is what stressors hold already: it is given back, or a part of this dose.
    """
    for spec in specs:
        try:
            interference.check(spec, _cache_bytes())
        except ConfigurationError as error:
            yield spec.kind, error
    misfit = interference.unfit(specs, memory_room_bytes() + held_bytes, _cache_bytes())
    if misfit:
        _, kind = max((spec.count * interference.memory_bytes(spec, _cache_bytes()), spec.kind) for spec in specs)
        yield kind, InterferenceError(f"interference {kind!r}", misfit, None, "lower its level or its mem_size")


def filling_s(specs: Sequence[InterferenceSpec]) -> float:
    """Return how many seconds memory doses take to fill on the cores of the services; see ``interference``."""
    return interference.filling_s(specs, _cores(), _cache_bytes())


@cache
def _cores() -> int:
    return len(plan_cores().services)


@cache
def _cache_bytes() -> int | None:
    return cache_bytes()
