"""Disturbances as Jobs: for each node and kind one, whose parallelism is the dose. Pure: specs in, manifests out.

Pods meet PodSecurity's ``restricted`` profile, and ask for exactly what they may use.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_aefm.interference import Host, Stressor, plan, program_of
from pytest_aefm.model import InterferenceSpec
from pytest_aefm.testbeds.kubernetes.deadman import GRACE_S
from pytest_aefm.testbeds.kubernetes.edits import APP_LABEL, RUN_LABEL, quantity
from pytest_aefm.testbeds.kubernetes.manifests import INTERFERENCE, ROLE_LABEL
from pytest_aefm.testbeds.kubernetes.restricted import container_security, only_on, pod_security, unmeshed
from pytest_aefm.testbeds.kubernetes.stress_sampler import SCRIPT

__all__ = [
    "BACKSTOP_S",
    "CONTROL_PLANE",
    "NETWORK_PORT",
    "StressJob",
    "StressOptions",
    "demand",
    "plan_clients",
    "plan_jobs",
    "selector",
]

BACKSTOP_S = 4 * 3600.0
"""Seconds after which a stressor ends by itself on a node that hears nothing; older than half of it is replaced."""

NETWORK_PORT = 5201
CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
"""Labels of nodes that are never disturbed."""

_CONTAINER = "stressor"
_GRACE_S, _ENDED_S = 2, 120
_PROGRAMS = {name: Path(name) for name in ("stress-ng", "iperf3")}


@dataclass(frozen=True, slots=True)
class StressOptions:
    """Images with stress-ng and with iperf3 (None: the same has both), and the PriorityClass of pods, if any."""

    image: str
    network_image: str | None = None
    priority_class: str | None = None


@dataclass(frozen=True, slots=True)
class StressJob:
    """A Job on ``node``: ``parallelism`` pods, each of which does what ``stressor`` says.

    A ring's client sends to the server on ``target``.
    """

    node: str
    stressor: Stressor
    parallelism: int = 1
    target: str = ""

    @property
    def size(self) -> dict[str, str]:
        """What a pod may use, and asks for: cpu and memory."""
        spec = self.stressor.spec
        return {"cpu": quantity(spec.cpu_size, milli=True), "memory": quantity(spec.mem_size)}

    def name(self, run: str, options: StressOptions) -> str:
        """Return a name that another node, dose per pod, image or run does not give; the parallelism may change."""
        spec = replace(self.stressor.spec, count=0)
        facts = [run, self.node, repr(spec), self.stressor.argv, repr(options), self.target]
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]
        kind = "-".join(filter(None, (spec.kind, self.stressor.part)))
        node = re.sub("[^a-z0-9]+", "-", self.node.lower())[:24].strip("-")
        return f"aefm-{kind.replace('_', '-')}-{node}-{digest}"

    def manifest(self, namespace: str, run: str, options: StressOptions) -> dict[str, Any]:
        """Return the Job."""
        labels = {
            RUN_LABEL: run,
            ROLE_LABEL: INTERFERENCE,
            APP_LABEL: INTERFERENCE,
            "aefm.dev/kind": self.stressor.spec.kind,
        }
        name = self.name(run, options)
        spec = {
            "parallelism": self.parallelism,
            "backoffLimit": 0,
            "activeDeadlineSeconds": round(GRACE_S),
            "ttlSecondsAfterFinished": _ENDED_S,
            "template": {
                "metadata": unmeshed(labels, {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}),
                "spec": self._pod(options),
            },
        }
        metadata = {"name": name, "namespace": namespace, "labels": labels}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}

    def _pod(self, options: StressOptions) -> dict[str, Any]:
        network = program_of(self.stressor.spec) == "iperf3"
        port = str(self.stressor.port if network else 0)
        container = {
            "name": _CONTAINER,
            "image": (network and options.network_image) or options.image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", SCRIPT, "sh", port, *self.stressor.argv],
            "workingDir": "/tmp",
            "env": [{"name": "TMPDIR", "value": "/tmp"}],
            "resources": {"requests": self.size, "limits": self.size},
            "securityContext": container_security(),
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        }
        never = [{"key": label, "operator": "DoesNotExist"} for label in CONTROL_PLANE]
        pod: dict[str, Any] = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": _GRACE_S,
            "affinity": {"nodeAffinity": only_on([self.node], *never)},
            "securityContext": pod_security(),
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        }
        return pod | ({"priorityClassName": options.priority_class} if options.priority_class else {})


def plan_jobs(specs: Sequence[InterferenceSpec], nodes: Sequence[str]) -> list[StressJob]:
    """Return the Jobs that need no other: all but the clients of a ring.

    Raises:
        ConfigurationError: a disturbance is none, or none that a pod can make.
    """
    jobs = []
    for spec in specs:
        if not spec.count:
            continue
        network = program_of(spec) == "iperf3"
        host = Host(_PROGRAMS, NETWORK_PORT, quota=True, address="")
        stressor = plan([spec if network else replace(spec, count=1)], host, BACKSTOP_S)[0]
        count = 1 if network else spec.count
        jobs += [StressJob(node, replace(stressor, spec=spec), count) for node in nodes]
    return jobs


def plan_clients(
    specs: Sequence[InterferenceSpec], nodes: Sequence[str], addresses: Mapping[str, str]
) -> list[StressJob]:
    """Return the Jobs of a ring's clients: each node sends to the next, whose server has an address."""
    jobs = []
    for spec in specs:
        if not spec.count or program_of(spec) != "iperf3":
            continue
        for node, target in zip(nodes, [*nodes[1:], nodes[0]], strict=True):
            host = Host(_PROGRAMS, NETWORK_PORT, quota=True, address=addresses[target])
            _, client = plan([spec], host, BACKSTOP_S)
            jobs.append(StressJob(node, client, target=target))
    return jobs


def demand(specs: Sequence[InterferenceSpec]) -> tuple[float, int, int]:
    """Return the cores, bytes of memory, and pods that a dose asks of every node."""
    active = [spec for spec in specs if spec.count]
    pods = [2 if program_of(spec) == "iperf3" else spec.count for spec in active]
    cores = sum(count * spec.cpu_size for count, spec in zip(pods, active, strict=True))
    memory = sum(count * spec.mem_size for count, spec in zip(pods, active, strict=True))
    return cores, memory, sum(pods)


def selector(run: str) -> str:
    """Return what selects a run's stressors."""
    return f"{RUN_LABEL}={run},{ROLE_LABEL}={INTERFERENCE}"
