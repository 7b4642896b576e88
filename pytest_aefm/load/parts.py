"""One load divided among generators, so that together they send exactly what one would have sent. Pure."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

from pytest_aefm.errors import ConfigurationError
from pytest_aefm.model import LoadSpec

__all__ = ["Part", "divide"]


@dataclass(frozen=True, slots=True)
class Part:
    """What one generator does of a load: it starts ``shift_s`` after the common start, and ends with the others."""

    index: int
    shift_s: float
    load: LoadSpec

    @property
    def window_after_s(self) -> float:
        """Seconds from the common start to the beginning of this generator's window."""
        return self.shift_s + self.load.warmup_s


def divide(load: LoadSpec, generators: int) -> tuple[Part, ...]:
    """Divide a load among at most so many generators: no more than it has connections, or requests to send.

    Arrivals interleave: generator i of n sends the requests i, i + n, i + 2n, ... of the whole. So it starts i
    intervals of the whole later, and warms up by as much less: all windows begin and end together. Where the warm-up
    is shorter than that, the window of the late one begins with its first request. Poisson processes add up to one.

    Raises:
        ConfigurationError: such a load has no parts that add up to it, or asks for what pods cannot give.
    """
    if load.requests:
        hint = "--aefm-load-from local drives from here"
        raise ConfigurationError("load from pods", "records of requests stay in the pods", None, hint)
    if generators > 1 and (load.precision or load.abort):
        what = "each pod would end for itself, by precision or abort"
        raise ConfigurationError(f"load from {generators} pods", what, "one pod", "use one pod")
    if generators > 1 and (load.schedule or load.distribution not in ("fixed", "exp")):
        what = "a schedule" if load.schedule else f"the distribution {load.distribution!r}"
        raise ConfigurationError(
            f"load from {generators} pods",
            f"{what} cannot be divided",
            "fixed or exp arrivals at one rate",
            "use one pod",
        )
    whole_s = load.warmup_s + load.duration_s
    count = max(1, min(generators, load.connections, math.floor(load.rate_rps * whole_s)))
    return tuple(_part(load, index, count) for index in range(count)) if count > 1 else (Part(0, 0.0, load),)


def _part(load: LoadSpec, index: int, count: int) -> Part:
    # A microsecond more, so that rounding takes no request from before an edge of the window to behind it.
    shift_s = (math.floor(index * 1e6 / load.rate_rps) + 1) / 1e6
    early_s = max(0.0, shift_s - load.warmup_s)
    connections = _share(load.connections, index, count)
    part = replace(
        load,
        rate_rps=load.rate_rps / count,
        warmup_s=round(max(0.0, load.warmup_s - shift_s), 6),
        duration_s=round(load.duration_s - early_s, 6),
        connections=connections,
        max_connections=None if load.max_connections is None else _share(load.max_connections, index, count),
        threads=min(math.ceil(load.threads / count), connections),
        seed=_seed(load.seed, index),
    )
    return Part(index, shift_s, part)


def _share(total: int, index: int, count: int) -> int:
    return total // count + (index < total % count)


def _seed(seed: int, index: int) -> int:
    """Return a seed that no neighbour of this one has: the next round may have the next number."""
    if index == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:6], "big")
