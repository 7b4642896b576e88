"""The JSON that a program serving one service of a topology reads: plain types, nothing to validate again.

``Topology.resolve`` writes it; whatever serves the mesh reads it. Times are in the units their names say.
"""

from __future__ import annotations

from typing import TypedDict

__all__ = ["CallConfig", "EndpointConfig", "LognormalConfig", "ServiceConfig", "StepConfig", "WaitConfig"]


class LognormalConfig(TypedDict):
    """A log-normal wait: its median in ms, the standard deviation of its logarithm."""

    median: float
    sigma: float


class WaitConfig(TypedDict, total=False):
    """Exactly one distribution, in milliseconds."""

    constant_ms: float
    uniform_ms: list[float]
    exponential_ms: float
    lognormal_ms: LognormalConfig


class CallConfig(TypedDict):
    """A call of a peer's endpoint; ``forward_query`` hands on the query of the request being served."""

    service: str
    method: str
    path: str
    forward_query: bool


class StepConfig(TypedDict, total=False):
    """``probability`` and exactly one of the others; the groups of ``parallel`` start together."""

    probability: float
    cpu_us: float
    wait: WaitConfig
    call: CallConfig
    parallel: list[list[StepConfig]]


class EndpointConfig(TypedDict):
    """One method and path: the parameters it requires, its steps in order, the size of its answer."""

    method: str
    path: str
    parameters: list[str]
    response_bytes: int
    steps: list[StepConfig]


class ServiceConfig(TypedDict):
    """One service, ready to be served on ``host``:``port``.

    ``peers`` maps a service's name to its base URL; ``otlp_endpoint`` is the full URL that takes traces, None for
    none; ``labels`` become resource attributes of its spans; work is ``cpu_us`` x ``iterations_per_us`` iterations.
    """

    app: str
    service: str
    host: str
    port: int
    peers: dict[str, str]
    endpoints: list[EndpointConfig]
    iterations_per_us: float
    otlp_endpoint: str | None
    sample_ratio: float
    seed: int
    labels: dict[str, str]
