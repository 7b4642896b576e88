"""Nodes, looked at before a run: there, Ready, alike, open to our pods, with room for them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pytest_aefm.errors import did_you_mean
from pytest_aefm.testbeds.kubernetes.amounts import amount, in_words, pod_asks
from pytest_aefm.testbeds.kubernetes.health import has_ended
from pytest_aefm.testbeds.kubernetes.preflight_needs import Needs, Remark, Wanted, wanted_pods

__all__ = ["chosen_nodes", "examine_nodes", "examine_room"]

Json = dict[str, Any]

_CLOSED = ("NoSchedule", "NoExecute")
_MEMORY_SHARE = 0.02
"""Machines of one kind differ by this much of their memory, as firmware and kernels take it."""

_FACTS: dict[str, Callable[[Json], str]] = {
    "cores": lambda node: str(node["status"]["capacity"].get("cpu")),
    "kernel": lambda node: _info(node, "kernelVersion"),
    "architecture": lambda node: _info(node, "architecture"),
    "kubelet": lambda node: _info(node, "kubeletVersion"),
    "container runtime": lambda node: _info(node, "containerRuntimeVersion"),
}


def chosen_nodes(nodes: Sequence[Json], needs: Needs) -> list[Json]:
    """Return the nodes that a run uses: those that are named, else all that take any pod."""
    names = {*needs.nodes, *(name for several in needs.roles.values() for name in several)}
    if names:
        return [node for node in nodes if _name(node) in names]
    return [node for node in nodes if not _closed(node)]


def examine_nodes(nodes: Sequence[Json], needs: Needs) -> Iterator[Remark]:
    """Say of each node that will be used what is wrong with it, and how they differ."""
    known = [_name(node) for node in nodes]
    named = list(dict.fromkeys([*needs.nodes, *(name for several in needs.roles.values() for name in several)]))
    for name in named:
        if name not in known:
            hint = did_you_mean(name, known) or f"there are: {', '.join(known)}"
            yield Remark("bad", f"node {name}", "is not in the cluster", hint)
    yield from _roles(needs)
    chosen = chosen_nodes(nodes, needs)
    if not chosen and not named:
        yield Remark("bad", "nodes", "none takes pods", "remove taints, or name nodes in the experiment")
    troubled = [remark for node in chosen for remark in _node(node)]
    yield from troubled
    differences = list(_differences(chosen))
    yield from differences
    if chosen and not troubled and not differences:
        facts = ", ".join(f"{name} {_FACTS[name](chosen[0])}" for name in ("cores", "kernel", "kubelet"))
        memory = in_words("memory", amount(chosen[0]["status"]["capacity"].get("memory", 0)))
        alike = "Ready" if len(chosen) == 1 else "Ready and alike"
        yield Remark("ok", "nodes", f"{', '.join(map(_name, chosen))}: {alike}: {facts}, memory {memory}")


def _roles(needs: Needs) -> Iterator[Remark]:
    if needs.interference and not (needs.nodes or needs.roles.get("testbed")):
        mend = "name nodes in the experiment, or kubectl label node NAME aefm.dev/testbed=true"
        yield Remark("bad", "nodes of role testbed", "none: interference has no node that it may disturb", mend)
    if needs.load_pods and needs.roles:
        load, testbed = needs.roles.get("load", ()), needs.roles.get("testbed", ())
        if not load:
            mend = "give the role load to a node of the experiment, or kubectl label node NAME aefm.dev/testbed=load"
            yield Remark("bad", "nodes of role load", "none: load from inside the cluster has no place", mend)
        elif both := sorted({*load} & {*testbed}):
            text = f"{', '.join(both)}: has the role testbed, too: load and services would share it"
            yield Remark("bad", "nodes of role load", text, "give each node one of these roles")


def _node(node: Json) -> Iterator[Remark]:
    subject = f"node {_name(node)}"
    conditions = {one["type"]: one for one in node["status"].get("conditions") or ()}
    ready = conditions.get("Ready", {"status": "Unknown"})
    if ready["status"] != "True":
        text = f"NotReady: {ready.get('message') or ready.get('reason') or 'its kubelet says nothing'}"
        yield Remark("bad", subject, text, f"kubectl describe node {_name(node)}")
    for kind, one in conditions.items():
        if kind != "Ready" and one["status"] == "True":
            yield Remark("warn", subject, f"{kind}: {one.get('message', '')}", f"kubectl describe node {_name(node)}")
    if node["spec"].get("unschedulable"):
        yield Remark("bad", subject, "is cordoned: it takes no pods", f"kubectl uncordon {_name(node)}")
    for taint in _taints(node):
        text = f"tainted {taint}: pods that do not tolerate it are not placed there"
        yield Remark("warn", subject, text, "remove the taint, or give the manifests a toleration")


def _differences(nodes: Sequence[Json]) -> Iterator[Remark]:
    """Say in what the nodes of a run differ: where a service runs then changes what is measured."""
    found = []
    for fact, read in _FACTS.items():
        groups: dict[str, list[str]] = {}
        for node in nodes:
            groups.setdefault(read(node), []).append(_name(node))
        if len(groups) > 1:
            found.append(f"{fact}: " + ", ".join(f"{value} on {' and '.join(on)}" for value, on in groups.items()))
    sizes = {_name(node): amount(node["status"]["capacity"].get("memory", 0)) for node in nodes}
    if sizes and max(sizes.values()) - min(sizes.values()) > _MEMORY_SHARE * max(sizes.values()):
        found.append("memory: " + ", ".join(f"{in_words('memory', size)} on {name}" for name, size in sizes.items()))
    if found:
        text = "; ".join(found)
        yield Remark("warn", "nodes", f"differ: {text}", "nodes of one kind, or one node for what is compared")


def examine_room(nodes: Sequence[Json], pods: Iterable[Json], needs: Needs) -> Iterator[Remark]:
    """Say which pods will find no room: by requests, each on the node with most cores left, the largest first."""
    chosen = chosen_nodes(nodes, needs)
    if needs.manifests is None or not chosen:
        return
    whole = {_name(node): {k: amount(v) for k, v in node["status"]["allocatable"].items()} for node in chosen}
    left = {name: dict(free) for name, free in whole.items()}
    for pod in pods:
        free = left.get(pod["spec"].get("nodeName", ""))
        if free is not None and not has_ended(pod):
            _take(free, pod_asks(pod["spec"]))
    homeless: dict[str, int] = {}
    never: list[str] = []
    wanted = list(wanted_pods(needs.manifests, len(chosen)))
    for one in sorted(wanted, key=_size, reverse=True):
        allowed = [name for name in needs.roles.get(one.role) or left if name in left]
        if not any(_fits(whole[name], one) for name in allowed):
            never.append(one.label)
            continue
        for _ in range(one.count):
            fitting = [left[name] for name in allowed if _fits(left[name], one)]
            if fitting:
                _take(max(fitting, key=lambda free: free.get("cpu", 0.0)), one.requests)
            else:
                homeless[one.label] = homeless.get(one.label, 0) + 1
    if never:
        text = f"no node is as large as a pod of {', '.join(never)} requests"
        yield Remark("bad", "room", text, "smaller requests (pod_spec), or larger nodes")
    if homeless:
        text = ", ".join(f"{number} of {label}" for label, number in homeless.items())
        mend = "smaller requests, fewer replicas, or more nodes; kubectl describe nodes says who has the rest"
        yield Remark("warn", "room", f"too little is left for these pods: {text}", mend)
    if not never and not homeless:
        yield Remark("ok", "room", f"for {sum(one.count for one in wanted)} pods, by what they request")


def _fits(free: Json, pod: Wanted) -> bool:
    return all(free.get(name, 0.0) >= value for name, value in {**pod.requests, "pods": 1.0}.items())


def _take(free: dict[str, float], asks: dict[str, float]) -> None:
    for name, value in {**asks, "pods": 1.0}.items():
        free[name] = free.get(name, 0.0) - value


def _size(pod: Wanted) -> tuple[float, float]:
    return pod.requests.get("cpu", 0.0), pod.requests.get("memory", 0.0)


def _closed(node: Json) -> bool:
    return bool(node["spec"].get("unschedulable") or _taints(node))


def _taints(node: Json) -> list[str]:
    """Return the taints that keep pods away; those of a node in trouble are told by its conditions."""
    return [
        f"{one['key']}:{one['effect']}"
        for one in node["spec"].get("taints") or ()
        if one["effect"] in _CLOSED and not one["key"].startswith("node.kubernetes.io/")
    ]


def _name(node: Json) -> str:
    return str(node["metadata"]["name"])


def _info(node: Json, key: str) -> str:
    return str((node["status"].get("nodeInfo") or {}).get(key))
