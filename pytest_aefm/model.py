"""The frozen values that travel through the package. No I/O, no pytest, no pydantic."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_aefm.decision import Latency, SLOResult
from pytest_aefm.errors import ConfigurationError
from pytest_aefm.histogram import LatencyHistogram
from pytest_aefm.slo import OUTCOMES, SLO, labels

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Account",
    "AppSpec",
    "Blame",
    "Case",
    "CheckResult",
    "ClusterSpec",
    "Columns",
    "Dose",
    "Finding",
    "InterferenceSpec",
    "LoadResult",
    "LoadSpec",
    "MakeColumns",
    "Scalar",
    "Suspect",
    "Trial",
    "Verdict",
    "Window",
    "as_json",
]

Scalar = str | int | float | bool

Columns = Mapping[str, Any]
"""A table: equally long sequences by the name of the column."""

MakeColumns = Callable[[], Columns]

LOWER_BOUNDS = ("timeout", "unanswered", "unsent")
"""Outcomes whose latency is known only to be at least what was recorded."""


class Verdict(StrEnum):
    """What became of a trial, gravest first: the first that applies is the trial's verdict."""

    BROKEN = "broken"
    INVALID = "invalid"
    VIOLATED = "violated"
    NO_DATA = "no_data"
    INCONCLUSIVE = "inconclusive"
    PASSED = "passed"


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """What an experiment says of the cluster that it runs on: names of nodes with their roles, and URLs."""

    nodes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    entry_url: str | None = None
    prometheus_url: str | None = None
    jaeger_url: str | None = None
    jaeger_entrance: str | None = None


@dataclass(frozen=True, slots=True)
class AppSpec:
    """The application to deploy; equal specs need no redeployment.

    ``topology`` is the file of an application of the user's own; the mappings and what else follows only Kubernetes
    uses, ``manifests`` being a file or folder.
    """

    name: str
    replicas: Mapping[str, int] = field(default_factory=dict)
    pod_spec: Mapping[str, Scalar] = field(default_factory=dict)
    namespace: str | None = None
    image: str | None = None
    manifests: str | None = None
    port: int | None = None
    topology: str | None = None
    cluster: ClusterSpec = field(default_factory=ClusterSpec)


@dataclass(frozen=True, slots=True)
class InterferenceSpec:
    """A disturbance: ``count`` stressors per node, each of ``cpu_size`` cores and ``mem_size`` bytes.

    ``throughput`` is that of one network stream; with ``dram`` a memory bandwidth's arrays outgrow every cache. A fault
    is of a ``service``, whose requests take ``count`` times ``delay_ms`` longer, or fail at ``count`` times
    ``fail_rate``. What Chaos Mesh does says its ``manifest``, a template in which ``$level`` is the count.
    """

    kind: str
    count: int
    cpu_size: float = 1.0
    mem_size: int = 200 * 2**20
    throughput: str | None = None
    dram: bool = False
    service: str = ""
    delay_ms: float = 0.0
    fail_rate: float = 0.0
    manifest: str = ""


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """An open-loop load run: ``rate_rps`` requests per second in total, measured for ``duration_s``.

    ``distribution`` says how requests follow one another; ``schedule`` holds steps and ramps of the rate instead of a
    constant one, ``(from_rps, to_rps, seconds)`` each, which last ``duration_s`` together. ``tags`` maps names to the
    requests that they mean, ``[METHOD ]/PATTERN``. Of ``limits_ms`` the result shall tell the effective sample sizes.
    With ``requests`` a record of each request is kept. ``precision``, a percentile and a share of its value, ends the
    window once the percentile's interval is that narrow; ``abort``, a share of failures and seconds, once so many
    failed so long. Beyond ``connections`` more are opened where none is free, up to ``max_connections``.
    """

    script: str
    rate_rps: float
    duration_s: float
    warmup_s: float = 5.0
    timeout_s: float = 2.0
    threads: int = 1
    connections: int = 8
    seed: int = 0
    mutates: bool = False
    distribution: str = "fixed"
    schedule: Sequence[Sequence[float]] = ()
    drain_s: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    limits_ms: Sequence[float] = ()
    requests: bool = False
    precision: tuple[float, float] | None = None
    abort: tuple[float, float] | None = None
    max_connections: int | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One point of the matrix. ``factors`` holds every factor by name, the user's own ones included.

    ``metrics`` are the user's own by name, each with the PromQL that gives it (None: a collector does), ``queries``
    what replaces a testbed's templates. ``script_path`` is where the load's script was found, ``repeats`` how rounds
    follow one another, ``origin`` the file or test where the experiment is written, ``seed`` what decided orders and
    requests. With ``judged`` False nothing but the apparatus is judged; with traces of less than
    ``min_trace_coverage`` of the requests sent, SLOs on traces have no data.
    """

    id: str
    experiment: str
    testbed: str
    app: AppSpec
    interference: tuple[InterferenceSpec, ...]
    load: LoadSpec
    factors: Mapping[str, Scalar]
    slos: tuple[SLO, ...] = ()
    metrics: Mapping[str, str | None] = field(default_factory=dict)
    queries: Mapping[str, str] = field(default_factory=dict)
    position: int = 0
    script_path: Path | None = None
    repeats: str | None = None
    min_trace_coverage: float = 0.0
    origin: str = ""
    seed: int = 0
    judged: bool = True

    @property
    def round(self) -> int:
        """Which repetition of its point this is, from 1."""
        return int(self.factors.get("round", 1))


@dataclass(frozen=True, slots=True)
class Window:
    """The measured interval ``[start, start + duration_s)`` of intended send times, warm-up excluded."""

    start_wall_s: float
    start_mono_s: float
    duration_s: float

    @property
    def end_wall_s(self) -> float:
        """Unix time of the end, in seconds."""
        return self.start_wall_s + self.duration_s

    @property
    def end_mono_s(self) -> float:
        """Monotonic time of the end, in seconds."""
        return self.start_mono_s + self.duration_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What became of requests of the window. What cannot be known is None or absent, never zero.

    ``offered`` = scheduled, ``sent`` = put on the wire, ``attempted`` = sent + connect errors, ``achieved`` =
    completed with an answer. ``outcomes`` counts sum to ``offered``; ``latency`` is per outcome, from the
    intended send time, and lacks an outcome that was counted where its latencies are not known. ``n_eff`` maps a limit
    in whole microseconds to the effective sample size of "slower than that".
    """

    offered: int
    sent: int | None
    attempted: int | None
    achieved: int
    outcomes: Mapping[str, int]
    latency: Mapping[str, LatencyHistogram]
    n_eff: Mapping[int, float] = field(default_factory=dict)

    @property
    def successes(self) -> int:
        """Number of successful requests."""
        return self.outcomes.get("success", 0)

    @property
    def goodput(self) -> float:
        """Successes / offered, NaN where nothing was offered."""
        return self.successes / self.offered if self.offered else float("nan")

    @property
    def error_rate(self) -> float:
        """Failures of all kinds / attempted, NaN where nothing was attempted or that is not known."""
        failures = sum(count for name, count in self.outcomes.items() if name not in ("success", "unsent"))
        return failures / self.attempted if self.attempted else float("nan")

    def observed_latency(self, outcome: str | None = None) -> Latency | None:
        """Return the latencies that ``pNN`` (successes, with lower bounds) or ``pNN{outcome=...}`` speaks of.

        None where one of these outcomes was counted, and its latencies are not known.
        """
        concerned = ("success", *LOWER_BOUNDS) if outcome is None else (outcome,)
        if any(self.outcomes.get(name) and name not in self.latency for name in concerned):
            return None
        empty = LatencyHistogram()
        if outcome in LOWER_BOUNDS:
            return Latency(empty, self.latency.get(str(outcome), empty))
        if outcome is not None:
            return Latency(self.latency.get(outcome, empty), empty)
        bounds = empty
        for name in LOWER_BOUNDS:
            bounds = bounds.merge(self.latency[name]) if name in self.latency else bounds
        return Latency(self.latency.get("success", empty), bounds, self.n_eff)

    def metrics(self, tag: str | None = None) -> dict[str, float | Latency | LatencyHistogram]:
        """Return what SLOs can ask of these requests; latencies that are not known are left out."""
        latencies = {outcome: self.observed_latency(outcome) for outcome in (None, *OUTCOMES)}
        known = {f"latency{labels(tag, outcome)}": found for outcome, found in latencies.items() if found is not None}
        return {**known, f"goodput{labels(tag)}": self.goodput, f"error_rate{labels(tag)}": self.error_rate}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult(Account):
    """What a driver measured in the window, of all requests and of those of each tag.

    ``backlog`` is the wait of requests that found no free connection. ``unknown`` maps what the driver cannot tell (a
    metric such as ``latency``, a self-check such as ``pacer lag p99``) to the reason. Of a load that several generators
    share, ``pacer_lag`` is that of the latest of them, and ``details`` tells of each. ``checks`` are those that the
    generator alone can make. ``connections_opened`` were opened beyond those asked for. ``ended_by`` is duration,
    precision, abort or interrupt; what ``precision`` and ``abort`` say is aefm-wrk's, None where they were not asked
    for. ``series`` has a row for each second of the window, as aefm-wrk has it, empty where nobody counts so.
    """

    driver: str
    version: str
    window: Window
    drain_s: float
    tags: Mapping[str, Account] = field(default_factory=dict)
    pacer_lag: LatencyHistogram | None = None
    backlog: LatencyHistogram | None = None
    backlog_quarters: tuple[float, ...] = ()
    backlog_at_end: int | None = None
    connections_asked: int | None = None
    connections_reached: int | None = None
    connections_opened: int | None = None
    open_failures: int | None = None
    threads_cpu: tuple[float, ...] = ()
    clock_step_s: float | None = None
    interrupted: bool = False
    ended_by: str = "duration"
    precision: Mapping[str, Any] | None = None
    abort: Mapping[str, Any] | None = None
    series: tuple[Mapping[str, Any], ...] = ()
    unknown: Mapping[str, str] = field(default_factory=dict)
    checks: tuple[CheckResult, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def overloaded(self) -> bool:
        """Whether the backlog grew over the window: the system could not take the offered rate.

        It must be worth speaking of (a hundredth of what was offered, or what the connections hold, was waiting
        at the end) and still be growing (more in the last quarter than in the second).
        """
        if self.backlog_at_end is None or len(self.backlog_quarters) != 4:
            return False
        waiting = self.backlog_at_end > max(1, 0.01 * self.offered)
        return waiting and self.backlog_quarters[3] > self.backlog_quarters[1]

    def all_metrics(self) -> dict[str, float | Latency | LatencyHistogram]:
        """Return what SLOs can ask of the load, of all requests and by tag."""
        found = self.metrics()
        for tag, account in self.tags.items():
            found |= account.metrics(tag)
        return found


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A self-check of the apparatus: ``ok`` False makes the trial invalid, ``warning`` True only warns."""

    name: str
    ok: bool
    observed: float | None = None
    limit: float | None = None
    unit: str = ""
    message: str = ""
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Dose:
    """Proof of one interference over the window: ``share`` = delivered / asked; the effect is kept apart."""

    kind: str
    count: int
    share: float
    ok: bool
    message: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason for a verdict: what it concerns, and a sentence with figures."""

    verdict: Verdict
    subject: str
    message: str


@dataclass(frozen=True, slots=True)
class Suspect:
    """A service on the critical path: its share, own time and transit to it per trace, and its state in the window.

    ``cpu`` and ``throttled`` are shares of 1, ``run_delay_ms_per_s`` is how long its threads waited for a core.
    """

    service: str
    share: float
    own_ms: float
    transit_ms: float
    cpu: float | None = None
    run_delay_ms_per_s: float | None = None
    throttled: float | None = None
    restarts: float | None = None


@dataclass(frozen=True, slots=True)
class Blame:
    """Where the time of a violated latency went: in ``slow`` of the ``traces``, those longer than ``limit_ms``.

    With no slow trace it is that of all of them: requests waited before the entry. ``suspects`` are the services that
    hold the most of the critical path, the first one the most.
    """

    limit_ms: float
    slow: int
    traces: int
    suspects: tuple[Suspect, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """One execution of a Case and all that came of it.

    ``metrics`` holds numbers only (percentiles in ms); ``environment`` what the testbed knows of itself;
    ``phases`` seconds by phase; ``collectors`` per collector ``{"ok": bool, "reason": str, ...}``. Where the trial ran
    in this process ``error`` is what broke it (reports have the finding), and ``tables`` make its rows when wanted.
    """

    case: Case
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    attempt: int = 1
    started_wall_s: float = 0.0
    window: Window | None = None
    load: LoadResult | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    slos: tuple[SLOResult, ...] = ()
    checks: tuple[CheckResult, ...] = ()
    doses: tuple[Dose, ...] = ()
    effect: Mapping[str, Any] = field(default_factory=dict)
    blame: Blame | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    collectors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    phases: Mapping[str, float] = field(default_factory=dict)
    artifacts: tuple[str, ...] = ()
    error: BaseException | None = field(default=None, compare=False, repr=False)
    tables: Mapping[str, MakeColumns] = field(default_factory=dict, compare=False, repr=False)

    @property
    def reason(self) -> str:
        """The first finding that gave the verdict, empty when passed."""
        return next((finding.message for finding in self.findings if finding.verdict == self.verdict), "")

    def table(self, name: str) -> dict[str, Any]:
        """Return the columns of one table, with the case's factors, its id and the attempt in each row.

        A factor that is called as a column gets ``factor_`` before its name.
        """
        columns = dict(self.tables[name]())
        rows = len(next(iter(columns.values()), ()))
        said = {f"factor_{key}" if key in columns else key: value for key, value in self.case.factors.items()}
        said |= {"case": self.case.id, "attempt": self.attempt}
        return {**columns, **{key: [value] * rows for key, value in said.items()}}

    def frames(self) -> dict[str, pd.DataFrame]:
        """Return the tables as DataFrames by name, each row with the case's factors.

        Raises:
            ConfigurationError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            hint = "pip install 'pytest-aefm[frames]'"
            raise ConfigurationError("trial.frames()", "pandas is not installed", None, hint) from error
        return {name: pd.DataFrame(self.table(name)) for name in self.tables}


def as_json(value: Any) -> Any:
    """Turn a frozen value into what ``json.dumps`` takes: histograms become HdrHistogram V2 with a summary, numpy's
    values Python's."""
    if isinstance(value, LatencyHistogram):
        return {**value.summary_ms(), "hdr": value.encode()} if value.count else {"count": 0}
    if isinstance(value, StrEnum):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: as_json(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [as_json(item) for item in value]
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):  # is there only where somebody imported it
        return as_json(value.tolist())
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None  # JSON has neither
    return value
