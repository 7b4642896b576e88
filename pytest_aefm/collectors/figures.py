"""What samples say of pods, services and nodes in a window: usage, shares of limits, throttling, traffic. Pure.

What is not known is absent, never zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_aefm.collectors.samples import (
    Sample,
    brackets,
    chosen_samples,
    counter_rate,
    increase,
    steepest,
    too_few,
)
from pytest_aefm.model import Window

__all__ = ["PEAKS", "Limits", "Series", "merged", "node_figures", "pod_figures", "service_figures", "unfit_peak"]

Series = Mapping[str, Sequence[Sequence[Sample]]]
"""Samples by the name of the query that gave them: those of each container."""

PEAKS = ("memory", "memory_share", "cpu_peak")
"""Metrics that claim a peak."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a pod may use: cores and bytes, None where there is no limit."""

    cores: float | None = None
    bytes: float | None = None


def pod_figures(series: Series, limits: Limits, window: Window) -> dict[str, Any]:
    """Return the figures of one pod, summed over its containers."""
    cpu = [chosen_samples(one, window) for one in series.get("cpu", ())]
    figures: dict[str, Any] = {
        "samples": min((len(one) for one in cpu), default=0),
        "span_s": round(min((one[-1][0] - one[0][0] for one in cpu if one), default=0.0), 3),
        "bracketed": bool(cpu) and all(brackets(one, window) for one in cpu),
    }
    used = [rate for one in cpu if (rate := counter_rate(one)) is not None]
    peaks = [rate for one in cpu if (rate := steepest(one)) is not None]
    if figures["bracketed"] and len(used) == len(cpu):  # of a part, or of another time, nothing follows
        figures["cpu_cores"] = round(sum(used), 5)
        if limits.cores:
            figures["cpu"] = round(sum(used) / limits.cores, 5)
    if peaks and len(peaks) == len(cpu) and limits.cores:
        figures["cpu_peak"] = round(sum(peaks) / limits.cores, 5)
    memory = [chosen_samples(one, window) for one in series.get("memory", ())]
    if memory and all(memory):
        figures["memory_max_bytes"] = sum(max(value for _, value in one) for one in memory)
        if limits.bytes:
            figures["memory_share"] = round(figures["memory_max_bytes"] / limits.bytes, 5)
    return figures | _counted(series, window)


def _counted(series: Series, window: Window) -> dict[str, Any]:
    """Return what counters tell beside usage: throttling, traffic and restarts."""
    figures: dict[str, Any] = {}
    periods, throttled = (increase(series.get(name, ()), window) for name in ("periods", "throttled_periods"))
    if periods and throttled is not None:
        figures["throttled_share"] = round(throttled / periods, 4)
    throttled_s = increase(series.get("throttled_seconds", ()), window)
    if throttled_s is not None:
        figures["throttled_s"] = round(throttled_s, 4)
    for name in ("receive", "transmit"):
        rates = [counter_rate(chosen_samples(one, window)) for one in series.get(name, ())]
        if known := [rate for rate in rates if rate is not None]:
            figures[f"{name}_bytes_per_s"] = round(sum(known), 1)
    restarts = increase(series.get("restarts", ()), window)
    if restarts is not None:
        figures["restarts"] = int(restarts)
    return figures


def service_figures(pods: Mapping[str, Series], limits: Mapping[str, Limits], window: Window) -> dict[str, Any]:
    """Return the figures of one service: those of all its pods together, with each pod's under ``pods``.

    A share of a limit at its peak is that of the pod where it is highest.
    """
    of_pods = {name: pod_figures(series, limits.get(name, Limits()), window) for name, series in pods.items()}
    figures = pod_figures(merged(pods.values()), _together([limits.get(name, Limits()) for name in pods]), window)
    for name in ("cpu_peak", "memory_share"):
        figures.pop(name, None)
        highest = [one[name] for one in of_pods.values() if name in one]
        if len(highest) == len(of_pods):
            figures[name] = max(highest)
    return {**figures, "pods": of_pods}


def node_figures(series: Series, window: Window) -> dict[str, Any]:
    """Return the figures of one node: cores and bytes used, and what waited, in milliseconds per second."""
    used = [rate for one in series.get("node_cpu", ()) if (rate := counter_rate(chosen_samples(one, window)))]
    figures: dict[str, Any] = {"cpu_cores": round(sum(used), 5)} if used else {}
    memory = [chosen_samples(one, window) for one in series.get("node_memory", ())]
    if memory and all(memory):
        figures["memory_max_bytes"] = sum(max(value for _, value in one) for one in memory)
    for name in ("cpu", "memory", "io"):
        rates = [counter_rate(chosen_samples(one, window)) for one in series.get(f"node_pressure_{name}", ())]
        if known := [rate for rate in rates if rate is not None]:
            figures[f"{name}_pressure_ms_per_s"] = round(1e3 * sum(known), 3)
    return figures


def unfit_peak(series: Series, window: Window, interval_s: float | None) -> dict[str, str]:
    """Return which metrics of a peak the samples are too few for, with the reason."""

    def reason(name: str) -> str:
        inside = [_inside(one, window) for one in series.get(name, ())]
        return too_few(min(inside, default=0), window, interval_s)

    found = {metric: reason("cpu" if metric == "cpu_peak" else "memory") for metric in PEAKS}
    return {metric: why for metric, why in found.items() if why}


def merged(parts: Iterable[Series]) -> Series:
    """Return the series of all parts under their names."""
    found: dict[str, list[Sequence[Sample]]] = {}
    for part in parts:
        for name, series in part.items():
            found.setdefault(name, []).extend(series)
    return found


def _inside(samples: Iterable[Sample], window: Window) -> int:
    return sum(window.start_wall_s <= at <= window.end_wall_s for at, _ in samples)


def _together(limits: Sequence[Limits]) -> Limits:
    cores, sizes = [one.cores for one in limits], [one.bytes for one in limits]
    return Limits(
        sum(one for one in cores if one) if all(cores) else None,
        sum(one for one in sizes if one) if all(sizes) else None,
    )
