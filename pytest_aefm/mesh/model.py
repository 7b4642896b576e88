"""The models of services, endpoints and smoke requests: each by itself; what they say of each other is in checks.py."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, StrictInt, field_validator, model_validator

from pytest_aefm.mesh.fields import (
    Count,
    Method,
    Positive,
    Probability,
    Strict,
    path_parameters,
    refused,
    size_bytes,
)
from pytest_aefm.mesh.steps import Call, Step, leaves

__all__ = ["Breaker", "Endpoint", "Service", "SmokeRequest"]


class Endpoint(Strict):
    """A method and a path of a service: what it requires, what it does, how much it answers."""

    method: Method = "GET"
    """GET, POST, PUT, PATCH or DELETE."""
    path: str
    """Such as `/hotels`, or `/hotels/{id}` for any third part; `/metrics` and `/-/...` are the mesh's own."""
    parameters: tuple[str, ...] = ()
    """Names that the query must have; a request without one is answered 400."""
    response_bytes: Annotated[StrictInt, Field(ge=0, le=16 * 2**20)] = 100
    """Size of the answer's body."""
    steps: tuple[Step, ...] = ()
    """What it does, in order."""

    @property
    def name(self) -> str:
        """The endpoint as spans and metrics name it: ``GET /hotels``."""
        return f"{self.method} {self.path}"

    @property
    def known_parameters(self) -> tuple[str, ...]:
        """The parameters that every request has, of its path and of its query."""
        return (*path_parameters(self.path), *self.parameters)

    @field_validator("path")
    @classmethod
    def _plain(cls, path: str) -> str:
        if not re.fullmatch(r"(/([!-z|~]*|\{[A-Za-z_]\w*\}))+", path) or set(path) & set("?#"):
            raise refused(f"expected a path such as '/hotels' or '/hotels/{{id}}', without query, got {path!r}")
        names = path_parameters(path)
        if len(set(names)) < len(names):
            raise refused(f"expected each parameter once, got {path!r}")
        if path == "/metrics" or path.startswith("/-/"):
            raise refused(f"{path!r} is kept for the mesh itself (/metrics, /-/...)")
        return path

    def calls(self) -> Iterator[tuple[float, Call]]:
        """Yield (how often on average per request, call)."""
        return ((often, step.call) for often, step in leaves(self.steps) if step.call is not None)

    def fits(self, method: str, path: str) -> bool:
        """Whether a request goes here: a segment ``{name}`` takes any one segment that is not empty."""
        mine, theirs = self.path.split("/"), path.split("/")
        return self.method == method and len(mine) == len(theirs) and all(map(_matches, mine, theirs))


def _matches(mine: str, theirs: str) -> bool:
    return mine == theirs or (mine.startswith("{") and theirs != "")


class Breaker(Strict):
    """Who calls in vain stops calling for a while."""

    failures: Count
    """Failed attempts in a row of one caller, after which its calls fail at once."""
    open_ms: Positive
    """For how long; then one may try."""


class Service(Strict):
    """A service: what it may use, how it works, its endpoints."""

    cpu_limit: Positive = 1.0
    """Cores that it may use: what `cpu(service)` is a share of."""
    memory_limit: str | None = None
    """Bytes, or `256Mi`, `1G`, ..."""
    replicas: Count = 1
    """Processes that serve it."""
    threads: Annotated[StrictInt, Field(ge=1, le=64)] = 1
    """Threads of a replica that do its CPU work."""
    workers: Count | None = None
    """Requests that a replica works on at a time, their waits and calls included; by default all that come."""
    queue: Annotated[StrictInt, Field(ge=0)] | None = None
    """Requests that may wait for one of the `workers`; others are answered 503 at once."""
    balance: Literal["round_robin", "least_connections"] = "round_robin"
    """How a caller spreads its calls over the replicas."""
    retry_budget: Probability | None = None
    """Retries of a caller as a share of its calls at most, and 10 more."""
    breaker: Breaker | None = None
    """Whether callers give up for a while after failures; by default they do not."""
    endpoints: Annotated[tuple[Endpoint, ...], Field(min_length=1)]
    """What it answers; a path without parameters goes before one with."""

    @property
    def memory_limit_bytes(self) -> int | None:
        """The memory limit in bytes, None where the file names none."""
        return None if self.memory_limit is None else size_bytes(self.memory_limit)

    @field_validator("memory_limit")
    @classmethod
    def _quantity(cls, value: str | None) -> str | None:
        if value is not None and not size_bytes(value):
            raise refused(f"expected a size such as '256Mi' or '1G', got {value!r}")
        return value

    @model_validator(mode="after")
    def _queue_of_workers(self) -> Service:
        if self.queue is not None and self.workers is None:
            raise refused("expected workers beside queue: without a limit nothing waits")
        return self

    def find(self, method: str, path: str) -> Endpoint | None:
        """Return the endpoint that a request of this method and path goes to."""
        fitting = [endpoint for endpoint in self.endpoints if endpoint.fits(method, path)]
        return min(fitting, key=lambda endpoint: "{" in endpoint.path, default=None)


class SmokeRequest(Strict):
    """A functional request of the entry service: it must answer ``expect``."""

    method: Method = "GET"
    """Its method."""
    path: str
    """Its path, with its query."""
    expect: Annotated[StrictInt, Field(ge=100, le=599)] = 200
    """The status of its answer."""
