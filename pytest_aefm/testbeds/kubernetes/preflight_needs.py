"""What a run needs of a cluster, and what is said of each thing that was looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_aefm.testbeds.kubernetes.amounts import Amounts, pod_asks
from pytest_aefm.testbeds.kubernetes.manifests import INFRA, Manifest

__all__ = ["Needs", "Remark", "Wanted", "wanted_pods"]


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that was looked at: ``state`` is ok, warn or bad, ``mend`` what helps, empty where nothing must."""

    state: str
    subject: str
    found: str
    mend: str = ""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a run will do.

    ``namespace`` is one that exists, None where the run makes its own; ``nodes`` those that the experiment names;
    ``roles`` nodes by role (testbed, infra, load), where they are known; ``manifests`` what will be applied, None where
    that is not known; ``run`` whose objects are no leftovers; ``prometheus``, ``jaeger``, ``tempo`` and ``otlp`` are
    URLs, None where nobody is asked.
    """

    namespace: str | None = None
    nodes: Sequence[str] = ()
    interference: bool = False
    load_pods: int = 0
    prometheus: str | None = None
    jaeger: str | None = None
    tempo: str | None = None
    otlp: str | None = None
    lease_namespace: str = "aefm-system"
    run: str | None = None
    roles: Mapping[str, Sequence[str]] = field(default_factory=dict)
    manifests: Sequence[Manifest] | None = None
    port_forward: bool = False
    allow_shared: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """Pods of a manifest: how many, what each asks for, and the role of the nodes they go to."""

    label: str
    count: int
    requests: Amounts
    limits: Amounts
    role: str


def wanted_pods(manifests: Sequence[Manifest], nodes: int) -> Iterator[Wanted]:
    """Yield the pods that manifests make; a DaemonSet has one on each of so many ``nodes``."""
    for item in manifests:
        steps = item.template_steps
        if steps is None or item.kind in ("PodTemplate", "CronJob"):
            continue
        template: Any = item.body
        for step in (*steps, "spec"):
            template = template.get(step) or {}
        spec = {} if item.kind == "Pod" else item.body.get("spec") or {}
        written = spec.get("parallelism" if item.kind == "Job" else "replicas", 1)
        count = nodes if item.kind == "DaemonSet" else 1 if written is None else int(written)
        role = "infra" if item.role == INFRA else "testbed"
        yield Wanted(item.label, count, pod_asks(template), pod_asks(template, "limits"), role)
