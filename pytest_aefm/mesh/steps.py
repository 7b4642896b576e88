"""The steps of an endpoint, as a topology file says them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, StrictInt, model_validator

from pytest_aefm.mesh.fields import (
    Count,
    Method,
    NotNegative,
    Positive,
    PositiveSize,
    Probability,
    Size,
    Strict,
    refused,
)
from pytest_aefm.mesh.waits import Wait

__all__ = ["Branch", "Cache", "Call", "Fail", "Memory", "Retries", "State", "Step", "Steps", "leaves"]

_LARGEST_BODY = 16 * 2**20


class Memory(Strict):
    """Memory written to: ``touch`` bytes, a cache line at a time, scattered over ``working_set``."""

    touch: PositiveSize
    """Bytes written each time: 64Ki."""
    working_set: PositiveSize
    """Bytes over which they are scattered, held from the start: 64Mi outgrows most caches."""

    @model_validator(mode="after")
    def _fits(self) -> Memory:
        if self.touch > self.working_set:
            raise refused(f"expected a working set of at least {self.touch} bytes, got {self.working_set}")
        return self


class State(Strict):
    """Data that the service keeps: it grows with each write, and reading it takes longer the more there is."""

    write: Size = 0
    """Bytes added each time; 0 only reads."""
    limit: PositiveSize
    """Bytes kept at most."""
    scan_us_per_mib: NotNegative = 0.0
    """CPU work of reading, in us for each MiB that is kept."""


class Fail(Strict):
    """An answer of ``status`` in place of the steps that follow."""

    status: Annotated[StrictInt, Field(ge=400, le=599)] = 503
    """Status of the answer."""
    window_s: tuple[NotNegative, NotNegative] | None = None
    """Only [from, to) seconds after the service's start."""
    every_s: Positive | None = None
    """The window comes again each so many seconds."""

    @model_validator(mode="after")
    def _window(self) -> Fail:
        window = self.window_s
        if window is not None and window[0] >= window[1]:
            raise refused(f"expected window_s: [from, to], got {list(window)}")
        if self.every_s is not None and (window is None or window[1] > self.every_s):
            raise refused(
                f"expected a window_s within the {self.every_s:g} s of every_s, got {window and list(window)}"
            )
        return self


class Retries(Strict):
    """What follows a failed attempt: no connection, no answer in time, a status of 500 or more."""

    attempts: Annotated[StrictInt, Field(ge=1, le=100)]
    """Attempts after the first."""
    backoff_ms: NotNegative = 10.0
    """Longest wait before the first of them, drawn evenly from 0 on; it doubles with each."""
    backoff_max_ms: NotNegative = 1000.0
    """It doubles up to this."""


class Call(Strict):
    """A call of an endpoint of a service; a required parameter comes from the request being served."""

    service: str
    """The service that is called."""
    endpoint: str
    """Path of its endpoint; a parameter such as `{id}` takes the value that the request being served has for it."""
    method: Method = "GET"
    """Method of its endpoint."""
    timeout_ms: Positive = 30_000.0
    """How long one attempt may take."""
    retries: Retries | None = None
    """Whether a failed attempt is repeated."""
    request_bytes: Annotated[StrictInt, Field(ge=0, le=_LARGEST_BODY)] = 0
    """Size of the request's body."""


def _as_group(item: Any) -> Any:
    """Read ``{service: ..., endpoint: ...}`` and a step that stands alone as a group of one step."""
    if isinstance(item, dict):
        return [{"call": item} if "service" in item else item]
    return item


class Cache(Strict):
    """Steps that a cache saves: by ``hit_ratio``, or as one of ``capacity`` keys does, the least recent first out."""

    one_of: ClassVar[tuple[str, ...]] = ("hit_ratio", "capacity")

    miss: Steps
    """What is done for what is not there."""
    hit_ratio: Annotated[NotNegative, Field(le=1)] | None = None
    """Share of requests that find what they want, whatever came before."""
    capacity: Count | None = None
    """Keys that are kept; the cache is empty when the service starts."""
    keys: Count | None = None
    """How many keys there are, one drawn for each request."""
    skew: NotNegative = 0.0
    """Zipf's exponent of that drawing: 0 draws all alike, 1 the first far more often."""
    key: str | None = None
    """The request's parameter that is the key, in place of a drawn one."""
    name: str = ""
    """Caches of one name in a service are one."""

    @model_validator(mode="after")
    def _one_kind(self) -> Cache:
        drawn = self.keys is not None
        if self.capacity is None and (drawn or self.key or self.skew or self.name):
            raise refused("expected no keys, skew, key or name beside hit_ratio")
        if self.capacity is not None and drawn == (self.key is not None):
            raise refused("expected either keys or key beside capacity")
        if self.skew and not drawn:
            raise refused("expected skew beside keys")
        return self


class Branch(Strict):
    """One branch of a choice."""

    weight: Positive
    """It is taken with the probability weight / sum of the weights."""
    steps: Annotated[tuple[Step, ...], BeforeValidator(_as_group)] = ()
    """What it does."""


class Step(Strict):
    """One thing that an endpoint does, and how often."""

    one_of: ClassVar[tuple[str, ...]] = (
        "cpu_us", "wait", "call", "parallel", "choice", "cache", "memory", "state", "fail",
    )  # fmt: skip

    cpu_us: NotNegative | None = None
    """CPU work: the amount that takes so many us on an idle machine."""
    wait: Wait | None = None
    """Time without CPU."""
    call: Call | None = None
    """A call of another service."""
    parallel: Annotated[tuple[Steps, ...], Field(min_length=1)] | None = None
    """Groups of steps that start together; it ends with the last of them."""
    choice: Annotated[tuple[Branch, ...], Field(min_length=1)] | None = None
    """One of several branches, drawn by their weights."""
    cache: Cache | None = None
    """Steps that are done only for what a cache does not have."""
    memory: Memory | None = None
    """Memory written to."""
    state: State | None = None
    """Data kept and read."""
    fail: Fail | None = None
    """An error in place of the answer."""
    probability: Probability = 1.0
    """How often it is done at all."""

    def groups(self) -> Iterator[tuple[tuple[str | int, ...], tuple[Step, ...], float]]:
        """Yield the groups of steps inside: (where, steps, how often they are done each time that this step is)."""
        for index, group in enumerate(self.parallel or ()):
            yield ("parallel", index), group, 1.0
        total = sum(branch.weight for branch in self.choice or ())
        for index, branch in enumerate(self.choice or ()):
            yield ("choice", index, "steps"), branch.steps, branch.weight / total
        if self.cache is not None:
            from pytest_aefm.mesh.caching import miss_ratio  # it needs numpy

            yield ("cache", "miss"), self.cache.miss, miss_ratio(self.cache)


Steps = Annotated[tuple[Step, ...], BeforeValidator(_as_group), Field(min_length=1)]


def leaves(steps: Iterable[Step]) -> Iterator[tuple[float, Step]]:
    """Yield (how often it is done per request on average, step) for all steps that contain no others.

    Nothing fails in this mean.
    """
    for step in steps:
        groups = list(step.groups())
        if not groups:
            yield step.probability, step
        for _, group, share in groups:
            for often, leaf in leaves(group):
                yield step.probability * share * often, leaf
