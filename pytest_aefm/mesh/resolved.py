"""The JSON that a program serving services of a topology reads: plain types, nothing to validate again.

``Topology.resolve`` writes it; ``aefm-mesh --config FILE`` reads a ``ServiceConfig``, or a ``GroupConfig`` where one
process serves several. Times are in the units their names say; a key marked ``NotRequired`` may be absent, its
default stands beside it.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

__all__ = [
    "BreakerConfig",
    "CacheConfig",
    "CallConfig",
    "ChoiceConfig",
    "EndpointConfig",
    "FailConfig",
    "FaultsConfig",
    "FaultsReport",
    "GroupConfig",
    "LognormalConfig",
    "MemoryConfig",
    "ParetoConfig",
    "PeerConfig",
    "RetryConfig",
    "ServiceConfig",
    "StateConfig",
    "StepConfig",
    "WaitConfig",
]


class LognormalConfig(TypedDict):
    """A log-normal wait: its median in ms, the standard deviation of its logarithm."""

    median: float
    sigma: float


class ParetoConfig(TypedDict):
    """A Pareto wait: its shortest value in ms, its tail index (the smaller, the heavier; above 1 for a mean)."""

    minimum: float
    shape: float


class WaitConfig(TypedDict, total=False):
    """Exactly one distribution, in milliseconds.

    ``empirical_ms`` are at least two quantiles, ascending and evenly spaced from 0 to 1, interpolated linearly.
    """

    constant_ms: float
    uniform_ms: list[float]
    exponential_ms: float
    lognormal_ms: LognormalConfig
    pareto_ms: ParetoConfig
    empirical_ms: list[float]


class MemoryConfig(TypedDict):
    """Write to ``touch_bytes`` of memory, a cache line at a time, scattered over ``working_set_bytes``.

    The working set belongs to the service (the largest that any of its steps names) and is there from the start.
    """

    touch_bytes: int
    working_set_bytes: int


class StateConfig(TypedDict):
    """Keep ``write_bytes`` more (0: only read), then scan all that is kept for ``scan_us_per_mib`` of CPU per MiB.

    What is kept belongs to the service, and grows to ``limit_bytes`` at most.
    """

    write_bytes: int
    limit_bytes: int
    scan_us_per_mib: NotRequired[float]  # 0


class FailConfig(TypedDict):
    """Answer the request with ``status`` (400 to 599) now.

    With ``window_s`` only within [from, to) of the service's age in seconds, with ``every_s`` beside it within
    [from, to) of each such period.
    """

    status: int
    window_s: NotRequired[list[float]]
    every_s: NotRequired[float]


class RetryConfig(TypedDict):
    """At most ``attempts`` more after a failure (connection, time-out, status of 500 or more).

    Before the n-th it waits a time drawn evenly from [0, min(``backoff_max_ms``, ``backoff_ms`` * 2**(n-1))].
    """

    attempts: int
    backoff_ms: float
    backoff_max_ms: float


class CallConfig(TypedDict):
    """A call of a peer's endpoint; ``forward_query`` hands on the query of the request being served.

    ``{name}`` in ``path`` is replaced by the parameter of that name of the request being served, of its path or
    of its query. Each attempt is a client span. A status of 400 or more fails the request being served (502).
    """

    service: str
    method: str
    path: str
    forward_query: bool
    timeout_ms: NotRequired[float]  # 30,000; each attempt
    retries: NotRequired[RetryConfig]  # none
    request_bytes: NotRequired[int]  # 0


class CacheConfig(TypedDict, total=False):
    """Run ``miss`` unless the key is cached: by ``hit_ratio``, or by a least-recently-used cache of the service.

    The key is the value of the parameter ``key``, else one of ``keys`` drawn with probability ~ 1/rank**``skew``.
    Caches of one ``name`` (in a service) are one, of ``capacity`` keys. A key is cached once ``miss`` ended well.
    """

    miss: list[StepConfig]  # always there
    hit_ratio: float
    name: str
    capacity: int
    key: str
    keys: int
    skew: float  # 0: evenly


class ChoiceConfig(TypedDict):
    """One branch of a choice, taken with probability ``weight`` / sum of weights."""

    weight: float
    steps: list[StepConfig]


class StepConfig(TypedDict, total=False):
    """``probability`` and exactly one of the others; the groups of ``parallel`` start together.

    All groups end before a failure in one of them fails the request.
    """

    probability: float
    cpu_us: float
    wait: WaitConfig
    memory: MemoryConfig
    state: StateConfig
    fail: FailConfig
    call: CallConfig
    cache: CacheConfig
    parallel: list[list[StepConfig]]
    choice: list[ChoiceConfig]


class EndpointConfig(TypedDict):
    """One method and path: the parameters that its query must have, its steps in order, the size of its answer.

    A segment of ``path`` that is ``{name}`` takes any one segment; of several paths that fit, the one without
    parameters answers, else the first. Spans and metrics name the endpoint by ``method`` and ``path`` as they are here.
    """

    method: str
    path: str
    parameters: list[str]
    response_bytes: int
    steps: list[StepConfig]


class BreakerConfig(TypedDict):
    """After ``failures`` attempts in a row that failed, calls fail at once for ``open_ms``; then one may try."""

    failures: int
    open_ms: float


class PeerConfig(TypedDict):
    """Where a service is reached, and what all calls of it share.

    ``urls`` are the base URLs of its replicas. ``retry_budget`` bounds its retries to that share of its first attempts
    (and 10 more).
    """

    urls: list[str]
    balance: NotRequired[Literal["round_robin", "least_connections"]]  # round_robin
    retry_budget: NotRequired[float]  # no bound
    breaker: NotRequired[BreakerConfig]  # none


class ServiceConfig(TypedDict):
    """One service, ready to be served on ``host``:``port`` (an IP address).

    ``peers`` maps a service's name to where it is; ``otlp_endpoint`` is the full URL that takes traces, None for
    none; ``labels`` become resource attributes of its spans, as does ``OTEL_RESOURCE_ATTRIBUTES`` of the environment
    (which names pod and node on a cluster); work is ``cpu_us`` x ``iterations_per_us`` iterations.

    At most ``workers`` requests are worked on at a time (from their first step to their last, waits and calls
    included), at most ``queue`` more wait, first come, first served, and all others are answered 503 at once.
    CPU work, memory and state run on ``threads`` threads: with one, on the thread that also speaks HTTP.
    """

    app: str
    service: str
    host: str
    port: int
    peers: dict[str, PeerConfig]
    endpoints: list[EndpointConfig]
    iterations_per_us: float
    otlp_endpoint: str | None
    sample_ratio: float
    seed: int
    labels: dict[str, str]
    threads: NotRequired[int]  # 1
    workers: NotRequired[int]  # 0: no limit
    queue: NotRequired[int]  # no limit
    faults: NotRequired[bool]  # false: /-/faults is refused
    span_queue: NotRequired[int]  # 32,768 spans that wait for export; what comes beyond is dropped and counted
    export_interval_ms: NotRequired[int]  # 0: spans leave when the queue is half full, or on POST /-/flush


class FaultsConfig(TypedDict, total=False):
    """The body of ``POST /-/faults``: what disturbs a service from now on, all of it replaced; ``{}`` for nothing.

    Each request takes ``delay_ms`` longer, a share ``fail_rate`` of them is answered ``fail_status`` (503) instead of
    being worked on, and with ``stall`` none is begun. It ends after ``ttl_s``. ``GET`` tells what is in force.
    """

    delay_ms: float
    fail_rate: float
    fail_status: int
    stall: bool
    ttl_s: float


class FaultsReport(TypedDict):
    """The answer to ``GET`` and to ``POST /-/faults``: what is in force, and counts since the service started.

    A request counts in ``requests`` when it ends, among those ``disturbed`` if faults made it wait or fail, with
    the wait that they gave it in ``delayed_ms``: so that of two answers, the difference proves a dose.
    """

    faults: FaultsConfig
    requests: int
    disturbed: int
    delayed_ms: float


class GroupConfig(TypedDict):
    """Services that one process serves, each on threads of its own."""

    services: list[ServiceConfig]
