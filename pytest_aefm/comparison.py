"""A run's cases against each other: whose self time grew, beside the same case without interference. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["KINDS", "growth_lines", "with_growth"]

KINDS = ("cpu", "mem_capacity", "mem_bandwidth", "network", "fault", "chaos")
_LEAST_SHARE, _LEAST_MS = 0.2, 0.1  # below that it is noise
_MOST = 3
_SELF_TIME = "self_time("


def with_growth(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a report's trials, each that was disturbed with whose self times grew (``grew``).

    It is compared with the trial of the same round, else the first one, that has the same factors but for the
    interference, which is at level 0, and that is neither broken nor invalid.
    """
    return [{**entry, "grew": _growth(entry, entries)} for entry in entries]


def growth_lines(entry: Mapping[str, Any]) -> list[str]:
    """Say whose self times grew, a line for each service."""
    grew = entry.get("grew")
    if not grew:
        return []
    lines = [f"{entry['case']}: self times that grew against {grew['against']}:"]
    for one in grew["services"]:
        before, now = one["before_ms"], one["now_ms"]
        times = f" ({now / before:.1f}x)" if before else ""
        lines.append(f"  {one['service']}: p95 {before:.3g} -> {now:.3g} ms{times}")
    return lines


def _growth(entry: Mapping[str, Any], entries: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    if not entry["interference"] or not _sound(entry):
        return None
    alike = [one for one in entries if _is_baseline(one, entry)]
    if not alike:
        return None
    same_round = [one for one in alike if one["factors"].get("round") == entry["factors"].get("round")]
    base = (same_round or alike)[0]
    before, now = _self_times(base), _self_times(entry)
    grown: list[dict[str, Any]] = [
        {"service": name, "before_ms": before[name], "now_ms": now[name]}
        for name in now.keys() & before.keys()
        if now[name] - before[name] >= max(_LEAST_MS, _LEAST_SHARE * before[name])
    ]
    grown.sort(key=lambda one: one["before_ms"] - one["now_ms"])
    return {"against": base["case"], "services": grown[:_MOST]} if grown else None


def _is_baseline(one: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    same = all(one.get(key) == entry.get(key) for key in ("experiment", "app", "testbed"))
    return same and not any(item["count"] for item in one["interference"]) and _sound(one) and _key(one) == _key(entry)


def _sound(entry: Mapping[str, Any]) -> bool:
    return entry["verdict"] not in ("broken", "invalid")


def _key(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry["factors"].items() if name not in (*KINDS, "round")}


def _self_times(entry: Mapping[str, Any]) -> dict[str, float]:
    """Return the 95th percentile of self times by service, in milliseconds."""
    return {
        name.removeprefix(_SELF_TIME).partition(",")[0]: float(value)
        for name, value in entry["metrics"].items()
        if name.startswith(_SELF_TIME) and name.endswith("p95)")
    }
