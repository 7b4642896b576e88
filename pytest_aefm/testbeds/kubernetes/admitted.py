"""A pod of ours beside what was asked for: what a LimitRange, a webhook or another admission made of it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_aefm.model import CheckResult
from pytest_aefm.testbeds.kubernetes.amounts import amount

__all__ = ["admission_check", "altered", "resized", "strangers"]

Json = dict[str, Any]

_UNASKED: Mapping[str, Any] = {
    "affinity": None,
    "hostIPC": None,
    "hostNetwork": None,
    "hostPID": None,
    "nodeSelector": None,
    "priorityClassName": None,
    "runtimeClassName": None,
    "schedulerName": "default-scheduler",
    "tolerations": None,
}
"""What decides where and beside whom a pod runs, and what the server makes of it where nothing is asked."""

_EVERY_POD = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable", "node.kubernetes.io/memory-pressure")
"""Taints that the server lets pods tolerate of itself."""

_SHOWN = 80


def strangers(asked: Json, admitted: Json) -> list[str]:
    """Return the containers that run beside those that were asked for: a service mesh's proxy, an agent."""
    wanted = {one["name"] for one in _containers(asked)}
    sidecars = [one for one in admitted.get("initContainers") or () if one.get("restartPolicy") == "Always"]
    return [one["name"] for one in (*_containers(admitted), *sidecars) if one["name"] not in wanted]


def resized(asked: Json, admitted: Json) -> list[str]:
    """Say which requests and limits became others, in the words ``load: limits.cpu none became 1``."""
    given = {one["name"]: one.get("resources") or {} for one in _containers(admitted)}
    found = []
    for one in _containers(asked):
        wished = one.get("resources") or {}
        limits, now = wished.get("limits") or {}, given.get(one["name"], {})
        # A request that is not written is as its limit.
        for kind, before in (("requests", {**limits, **(wished.get("requests") or {})}), ("limits", limits)):
            after = now.get(kind) or {}
            for name in sorted({*before, *after}):
                if name not in before or name not in after or amount(before[name]) != amount(after[name]):
                    change = f"{before.get(name, 'none')} became {after.get(name, 'none')}"
                    found.append(f"{one['name']}: {kind}.{name} {change}")
    return found


def altered(asked: Json, admitted: Json) -> list[str]:
    """Say what else became different: place, rights, program, and containers that run before ours."""
    found = []
    for name in sorted({*asked, *_UNASKED} - {"containers", "volumes"}):
        before, after = asked.get(name, _UNASKED.get(name)), admitted.get(name)
        if name == "tolerations" and after is not None:
            after = [one for one in after if one.get("key") not in _EVERY_POD] or None
        if name in asked and not _holds(before, after):
            found.append(f"{name} {_spelled(before)} became {_spelled(after)}")
        elif name not in asked and after is not None and after != before:
            found.append(f"{name} {_spelled(after)} was added")
    given = {one["name"]: one for one in _containers(admitted)}
    for one in _containers(asked):
        found += _in_container(one, given.get(one["name"], {}))
    wished = {one["name"] for one in asked.get("initContainers") or ()}
    for one in admitted.get("initContainers") or ():
        if one["name"] not in wished and one.get("restartPolicy") != "Always":
            found.append(f"the init container {one['name']} was added")
    return found


def admission_check(whose: str, changes: Sequence[str]) -> Iterator[CheckResult]:
    """Warn of what admission changed, if it did; ``whose`` pods they were."""
    if changes:
        message = f"the cluster changed pods of {whose}: {'; '.join(changes)}"
        yield CheckResult(f"admission of {whose}", False, message=message, warning=True)


def _in_container(asked: Json, admitted: Json) -> Iterator[str]:
    for name in sorted(asked.keys() - {"name", "resources"}):
        if not _holds(asked[name], admitted.get(name)):
            yield f"{asked['name']}: {name} {_spelled(asked[name])} became {_spelled(admitted.get(name))}"


def _holds(asked: Any, admitted: Any) -> bool:
    """Whether all that was asked for is there; the server fills in defaults, and adds to lists of named things."""
    if isinstance(asked, dict):
        return isinstance(admitted, dict) and all(_holds(value, admitted.get(key)) for key, value in asked.items())
    if isinstance(asked, Sequence) and not isinstance(asked, str):
        if not isinstance(admitted, list):
            return not asked and admitted is None
        if asked and all(isinstance(one, dict) and "name" in one for one in asked):
            return all(any(_holds(one, other) for other in admitted) for one in asked)
        return len(asked) == len(admitted) and all(map(_holds, asked, admitted))
    return bool(asked == admitted) or (not asked and admitted is None)


def _containers(spec: Json) -> Sequence[Json]:
    return spec.get("containers") or ()


def _spelled(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
