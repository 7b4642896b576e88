"""Amounts as Kubernetes writes them (``250m``, ``64Mi``, ``1e3``), and what pods ask for of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["Amounts", "amount", "in_words", "pod_asks"]

_AMOUNT = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?", re.ASCII)
_FACTORS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_FACTORS |= {f"{name}i": 2.0 ** (10 * power) for power, name in enumerate("KMGTPE", start=1)}

Amounts = dict[str, float]


def amount(value: Any) -> float:
    """Return an amount in its base unit: cores, bytes, objects.

    Raises:
        ValueError: it is none.
    """
    found = _AMOUNT.fullmatch(str(value))
    if found is None:
        raise ValueError(f"not an amount: {value!r}")
    return float(found[1]) * _FACTORS.get(found[2], 1.0)


def pod_asks(spec: Mapping[str, Any], of: str = "requests") -> Amounts:
    """Return what a pod asks for, as the scheduler counts: its containers together, or its largest init container.

    ``of`` is requests or limits; a request that is not written is as its limit.
    """
    running: Amounts = _sum(_asks(one, of) for one in spec.get("containers") or ())
    most: Amounts = {}
    for one in spec.get("initContainers") or ():
        asks = _asks(one, of)
        if one.get("restartPolicy") == "Always":  # a sidecar: it stays
            running = _sum([running, asks])
        else:
            most = {name: max(most.get(name, 0.0), asks.get(name, 0.0)) for name in {*most, *asks}}
    total = {name: max(running.get(name, 0.0), most.get(name, 0.0)) for name in {*running, *most}}
    return _sum([total, {name: amount(value) for name, value in (spec.get("overhead") or {}).items()}])


def in_words(name: str, value: float) -> str:
    """Spell an amount for a person."""
    if name.rpartition(".")[2] == "cpu":
        return f"{value:g} cores" if value >= 1 else f"{value * 1000:.0f}m cores"
    if name.rpartition(".")[2] in ("memory", "storage", "ephemeral-storage"):
        return f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"
    return f"{value:g}"


def _asks(container: Mapping[str, Any], of: str) -> Amounts:
    resources = container.get("resources") or {}
    written = {**((resources.get("limits") or {}) if of == "requests" else {}), **(resources.get(of) or {})}
    return {name: amount(value) for name, value in written.items()}


def _sum(parts: Iterable[Amounts]) -> Amounts:
    total: Amounts = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0.0) + value
    return total
