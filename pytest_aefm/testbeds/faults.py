"""Faults as interference: services of the mesh that delay or fail requests when asked, and what they say they did.

How a replica is asked is the testbed's affair: all that this needs of it is an :data:`Ask`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isclose, sqrt
from typing import Any

from pytest_aefm.errors import ConfigurationError, InterferenceError, did_you_mean
from pytest_aefm.interference import MINIMUM_SHARE
from pytest_aefm.mesh.resolved import FaultsConfig, FaultsReport
from pytest_aefm.mesh.topology import Topology
from pytest_aefm.model import Dose, InterferenceSpec

__all__ = [
    "Ask",
    "FaultReading",
    "Replicas",
    "faults_of",
    "prove_faults",
    "read_faults",
    "refuse_faults",
    "report_of",
    "set_faults",
]

_SIGMAS = 4.0  # below what chance gives a share of failures

Ask = Callable[["FaultsConfig | None"], "FaultsReport | str"]
"""Puts faults in force, or with None only asks: what the replica reports, or why it does not."""

Replicas = Mapping[str, Mapping[str, Ask]]
"""By the name of a service its replicas, by theirs."""


@dataclass(frozen=True, slots=True)
class FaultReading:
    """What the replicas of a disturbed service report at one moment, by their names; None of one that does not."""

    spec: InterferenceSpec
    reports: Mapping[str, FaultsReport | None]


def faults_of(specs: Iterable[InterferenceSpec]) -> tuple[InterferenceSpec, ...]:
    """Return those disturbances that are faults of services."""
    return tuple(spec for spec in specs if spec.kind == "fault")


def refuse_faults(topology: Topology, specs: Iterable[InterferenceSpec]) -> None:
    """Refuse faults of services that there are not.

    Raises:
        ConfigurationError: names the service.
    """
    for spec in faults_of(specs):
        if spec.service not in topology.services:
            known = topology.services
            hint = did_you_mean(spec.service, known) or f"known: {', '.join(known)}"
            raise ConfigurationError("interference 'fault'", f"unknown service {spec.service!r}", None, hint)


def set_faults(replicas: Replicas, specs: Iterable[InterferenceSpec], ttl_s: float = 0.0) -> None:
    """Put exactly these faults in force: all other ``replicas`` work as their topology says.

    With ``ttl_s`` they end by themselves so many seconds from now.

    Raises:
        InterferenceError: a service does not take them, or has no replica.
    """
    wanted = {spec.service: _config(spec) for spec in faults_of(specs)}
    for service in wanted:
        if not replicas.get(service):
            raise InterferenceError(f"interference fault of {service}", "the service has no replica")
    for service, its in replicas.items():
        config = wanted.get(service, FaultsConfig())
        asked: FaultsConfig = {**config, "ttl_s": ttl_s} if config and ttl_s else config
        for name, ask in its.items():
            report = ask(asked)
            if isinstance(report, str):
                raise InterferenceError(f"interference fault of {name}", f"the service does not take it: {report}")
            if not _in_force(report, config):
                raise InterferenceError(f"interference fault of {name}", "the service does not take it")


def read_faults(replicas: Replicas, specs: Iterable[InterferenceSpec]) -> tuple[FaultReading, ...]:
    """Ask the disturbed services what they did so far."""
    found = []
    for spec in faults_of(specs):
        reports = {name: ask(None) for name, ask in replicas.get(str(spec.service), {}).items()}
        told = {name: None if isinstance(report, str) else report for name, report in reports.items()}
        found.append(FaultReading(spec, told))
    return tuple(found)


def report_of(document: Any) -> FaultsReport | str:
    """Return a parsed answer as a report, or what is wrong with it."""
    counts = ("requests", "disturbed", "delayed_ms")
    if not isinstance(document, dict) or not isinstance(document.get("faults"), dict):
        return f"no report: {str(document)[:200]}"
    if any(not isinstance(document.get(name), int | float) for name in counts):
        return f"no report: {str(document)[:200]}"
    report: FaultsReport = document  # type: ignore[assignment] # what it must hold was looked at
    return report


def prove_faults(before: Sequence[FaultReading], after: Sequence[FaultReading]) -> tuple[Dose, ...]:
    """Return one Dose for each fault: what the service's own counts say of the window between two readings."""
    later = {reading.spec: reading for reading in after}
    return tuple(_dose(reading, later.get(reading.spec)) for reading in before)


def _config(spec: InterferenceSpec) -> FaultsConfig:
    """Return what a level means: so many times the delay, and so many times the share of failures."""
    config = FaultsConfig()
    if spec.delay_ms:
        config["delay_ms"] = spec.count * spec.delay_ms
    if spec.fail_rate:
        config["fail_rate"] = spec.count * spec.fail_rate
    return config


def _in_force(report: FaultsReport, wanted: FaultsConfig) -> bool:
    """Whether a service is disturbed by exactly what is wanted."""
    found = report["faults"]
    same_delay = isclose(found.get("delay_ms", 0.0), wanted.get("delay_ms", 0.0), abs_tol=1e-5)
    same_rate = isclose(found.get("fail_rate", 0.0), wanted.get("fail_rate", 0.0), abs_tol=1e-5)
    return same_delay and same_rate and not found.get("stall")


def _dose(first: FaultReading, last: FaultReading | None) -> Dose:
    spec, wanted = first.spec, _config(first.spec)
    requests = disturbed = 0
    delayed_ms, faults = 0.0, []
    for name, before in first.reports.items():
        after = last.reports.get(name) if last else None
        if before is None or after is None:
            faults.append(f"{name} does not tell")
            continue
        if not (_in_force(before, wanted) and _in_force(after, wanted)):
            faults.append(f"{name} was not disturbed")
        requests += after["requests"] - before["requests"]
        disturbed += after["disturbed"] - before["disturbed"]
        delayed_ms += after["delayed_ms"] - before["delayed_ms"]
    share = _share(wanted, requests, disturbed, delayed_ms)
    if not requests:
        faults.append("no request reached it in the window")
    elif share < MINIMUM_SHARE:
        faults.append(f"{share:.0%} of the dose was delivered, at least {MINIMUM_SHARE:.0%} is needed")
    told = "; ".join(faults) or f"{disturbed} of {requests} requests, {delayed_ms / max(1, requests):.3g} ms each"
    details: dict[str, Any] = {
        "service": spec.service,
        **wanted,
        "requests": requests,
        "disturbed": disturbed,
        "delayed_ms": round(delayed_ms, 3),
    }
    return Dose("fault", spec.count, round(share, 4), not faults, f"fault of {spec.service}: {told}", details)


def _share(wanted: FaultsConfig, requests: int, disturbed: int, delayed_ms: float) -> float:
    """Return delivered / asked: of the delay its sum; of failures alone their number, less what chance may take."""
    if requests <= 0:
        return 0.0
    delay_ms, rate = wanted.get("delay_ms", 0.0), wanted.get("fail_rate", 0.0)
    if delay_ms:
        return min(1.0, delayed_ms / (requests * delay_ms))
    expected = requests * rate
    least = expected - _SIGMAS * sqrt(expected * (1.0 - rate))
    return 1.0 if disturbed >= least else disturbed / expected
