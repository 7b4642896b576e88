"""The experiment as a frozen value, and the cases that it stands for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_aefm.decision import requests_needed
from pytest_aefm.errors import ConfigurationError
from pytest_aefm.experiment.matrix import Factor, Matrix, Point, derived_seed, interference_specs, spell_point
from pytest_aefm.experiment.settings import Key, Setting
from pytest_aefm.experiment.source import Origin
from pytest_aefm.model import AppSpec, Case, InterferenceSpec, LoadSpec, Scalar
from pytest_aefm.slo import SLO

__all__ = ["Cluster", "Experiment", "Load", "Node"]

_TWO_SIDED = 0.975
"""Confidence of each end of a 95 % interval."""

MAX_ID = 180
"""An id is part of file names, which hold 255 bytes."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the cluster; ``roles`` are testbed, infra and load."""

    name: str
    roles: tuple[str, ...]
    ip: str | None = None


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the experiment says of its cluster; the local testbed has no use for it."""

    nodes: tuple[Node, ...] = ()
    prometheus_url: str | None = None
    jaeger_url: str | None = None
    jaeger_entrance: str | None = None
    entry_url: str | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """What all load runs of the experiment have in common.

    ``connections`` is the total, where one was given. ``per_rate`` is AEFM's (connections, rate) of one
    generator, of which it had as many as the rate needed. ``phases`` are a schedule's, in multiples of the rate.
    ``precision``, ``abort`` and ``max_connections`` are as in :class:`~pytest_aefm.model.LoadSpec`.
    """

    script: str
    duration_s: float
    warmup_s: float = 5.0
    timeout_s: float = 2.0
    threads: int | None = None
    connections: int | None = None
    per_rate: tuple[int, float | None] | None = None
    mutates: bool = False
    distribution: str = "fixed"
    phases: tuple[tuple[float, float, float], ...] = ()
    drain_s: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    requests: bool = False
    precision: tuple[float, float] | None = None
    abort: tuple[float, float] | None = None
    max_connections: int | None = None

    @property
    def requests_s(self) -> float:
        """Seconds in which the rate itself would send as many requests as a window has."""
        return sum((first + last) / 2 * seconds for first, last, seconds in self.phases) or self.duration_s

    def connections_at(self, rate_rps: float) -> int:
        """Return the total number of connections: 0.5 s of requests, at least 8, where nothing was said."""
        if self.connections is not None:
            return self.connections
        if self.per_rate is not None:
            connections, rate = self.per_rate
            return connections * (math.ceil(rate_rps / rate - 1e-9) if rate else 1)
        return max(8, math.ceil(rate_rps * 0.5))

    def at(self, rate_rps: float, seed: int, limits_ms: tuple[float, ...] = ()) -> LoadSpec:
        """Return the load run at a rate, which shall tell of these limits."""
        connections = self.connections_at(rate_rps)
        return LoadSpec(
            script=self.script,
            rate_rps=float(rate_rps),
            duration_s=self.duration_s,
            warmup_s=self.warmup_s,
            timeout_s=self.timeout_s,
            threads=min(self.threads or 1, connections),
            connections=connections,
            seed=seed,
            mutates=self.mutates,
            distribution=self.distribution,
            schedule=tuple((first * rate_rps, last * rate_rps, seconds) for first, last, seconds in self.phases),
            drain_s=self.drain_s,
            tags=self.tags,
            limits_ms=limits_ms,
            requests=self.requests,
            precision=self.precision,
            abort=self.abort,
            max_connections=self.max_connections,
        )


@dataclass(frozen=True)
class Experiment:
    """One application, a matrix of factors, and the SLOs that judge every case.

    ``source`` is the YAML file, if there is one; ``notes`` say what was left out of what is written there.
    ``seed`` is the experiment's own; without one the run's decides. ``judged`` is False for ``slos: none``.
    ``metrics`` and ``queries`` are as in :class:`~pytest_aefm.model.Case`.
    """

    name: str
    testbed: str
    app: AppSpec
    load: Load
    matrix: Matrix
    slos: tuple[SLO, ...] = ()
    judged: bool = True
    min_trace_coverage: float = 0.0
    seed: int | None = None
    metrics: Mapping[str, str | None] = field(default_factory=dict)
    queries: Mapping[str, str] = field(default_factory=dict)
    interference: Mapping[str, Mapping[str, Scalar]] = field(default_factory=dict)
    cluster: Cluster = Cluster()
    source: Path | None = None
    notes: tuple[str, ...] = ()
    origin: Origin = field(default=Origin("experiment"), repr=False, compare=False)
    settings: Mapping[Key, Setting] = field(default_factory=dict, repr=False, compare=False)

    @property
    def script(self) -> str:
        """The Lua script, as it was written; it is looked up beside ``source`` first."""
        return self.load.script

    @property
    def factors(self) -> tuple[Factor, ...]:
        """The factors in the order of ids."""
        return self.matrix.factors

    @property
    def order(self) -> str:
        """How cases follow one another: listed, blocks, cost or randomised."""
        return self.matrix.order

    @property
    def repeats(self) -> str | None:
        """How rounds follow one another: ``adjacent`` or ``interleaved``; None where nothing is repeated.

        ``redeployed`` is for a testbed to say that deploys anew in every round.
        """
        return self.matrix.repeats()

    def cases(self, confidence: float = 0.95, seed: int = 0) -> tuple[Case, ...]:
        """Return the cases in running order.

        ``seed`` is the run's: with the experiment's name and the round it decides the shuffles and the seed
        of the requests, which all cases of a round share. ``confidence`` is that of percentile SLOs.

        Raises:
            ConfigurationError: rate x duration cannot decide an SLO, or two cases have the same id.
        """
        seed = seed if self.seed is None else self.seed
        points = self.matrix.points(seed, self.name)
        self._refuse_undecidable(confidence, min(float(point["rate"]) for point in points))
        self._refuse_early_end(confidence)
        ids = [spell_point(self.app.name, point, self.factors) for point in points]
        self._refuse_ids(ids, points)
        specs: dict[tuple[tuple[str, int], ...], tuple[InterferenceSpec, ...]] = {}
        limits_ms = tuple(dict.fromkeys(one.limit for one in self.slos if one.over_successes))
        cases = []
        for position, (name, point) in enumerate(zip(ids, points, strict=True)):
            load_seed = derived_seed(seed, self.name, point.get("round", 1))
            load = self.load.at(float(point["rate"]), load_seed, limits_ms)
            disturbances = self.interference_specs(point)
            disturbances = specs.setdefault(tuple((spec.kind, spec.count) for spec in disturbances), disturbances)
            cases.append(self._case(name, disturbances, load, point, position, seed))
        return tuple(cases)

    def _case(
        self,
        name: str,
        disturbances: tuple[InterferenceSpec, ...],
        load: LoadSpec,
        point: Point,
        position: int,
        seed: int,
    ) -> Case:
        return Case(
            name,
            self.name,
            self.testbed,
            self.app,
            disturbances,
            load,
            point,
            self.slos,
            metrics=self.metrics,
            queries=self.queries,
            position=position,
            min_trace_coverage=self.min_trace_coverage,
            seed=seed,
            judged=self.judged,
        )

    def interference_specs(self, point: Mapping[str, Scalar]) -> tuple[InterferenceSpec, ...]:
        """Return the disturbances at a point of the matrix; a kind at level 0 is none."""
        return interference_specs(point, self.interference)

    def error(self, key: str, what: str, expected: str | None = None, hint: str | None = None) -> ConfigurationError:
        """Return an error about a setting such as ``app``, with the place where it is written."""
        setting = self.settings.get((key,))
        if setting is None:
            return self.origin.error((key,), what, expected, hint)
        return setting.error(what, (), expected, hint)

    def _refuse_undecidable(self, confidence: float, rate: float) -> None:
        """Refuse an SLO over successes that needs more requests than the slowest case sends."""
        duration = self.load.requests_s
        needs = [
            (requests_needed(one.percentile, confidence), number)
            for number, one in enumerate(self.slos)
            if one.over_successes and one.percentile is not None
        ]
        needed, number = max(needs, default=(0, 0), key=lambda need: need[0])
        if rate * duration + 1e-9 >= needed:
            return
        enough = math.ceil(needed / rate * 1000 - 1e-6) / 1000
        what = (
            f"{self.slos[number].text} needs at least {needed} requests; "
            f"{rate:g} req/s x {duration:g} s gives {math.floor(rate * duration + 1e-9)}"
        )
        setting = self.settings[("slos",)]
        raise setting.error(what, (number,), f"a duration of at least {enough:.10g} s")

    def _refuse_early_end(self, confidence: float) -> None:
        """Refuse a precision that may be reached before there are enough requests for an SLO on a higher percentile."""
        if self.load.precision is None:
            return
        percent, _ = self.load.precision
        least = requests_needed(percent, _TWO_SIDED)
        for one in self.slos:
            if one.over_successes and one.percentile and requests_needed(one.percentile, confidence) > least:
                what = f"p{percent:g} may be known after {least} requests; {one.text} needs more"
                raise self.error("precision", what, f"a percentile of at least p{one.percentile:g}")

    def _refuse_ids(self, ids: list[str], points: list[Point]) -> None:
        """Refuse ids that are equal on a file system that does not tell upper from lower case, or too long."""
        for name in ids:
            if len(name) > MAX_ID:
                raise self.origin.error((), f"the id {name[:40]!r}... is longer than {MAX_ID} characters")
        folded = Counter(name.lower() for name in ids)
        if len(folded) == len(ids):
            return
        twice = next(name for name, count in folded.items() if count > 1)
        same = [str(point) for name, point in zip(ids, points, strict=True) if name.lower() == twice]
        raise self.origin.error((), f"two cases have the id {twice!r}: {same[0]} and {same[1]}")
