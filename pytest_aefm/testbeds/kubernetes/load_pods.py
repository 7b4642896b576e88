"""A load as manifests: one Indexed Job, a ConfigMap with script and plan, and a Service by which its pods meet. Pure.

The pods need no permission, meet PodSecurity's ``restricted`` profile, and never share a node with what is under test.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_aefm.load.lines import PROTOCOL
from pytest_aefm.load.parts import Part
from pytest_aefm.testbeds.kubernetes.deadman import GRACE_S
from pytest_aefm.testbeds.kubernetes.edits import APP_LABEL, RUN_LABEL
from pytest_aefm.testbeds.kubernetes.manifests import LOAD, ROLE_LABEL, UNDER_TEST
from pytest_aefm.testbeds.kubernetes.restricted import container_security, only_on, pod_security, unmeshed

__all__ = ["LOAD_LABEL", "POD_SCRIPT", "LoadPods"]

Json = dict[str, Any]

LOAD_LABEL = "aefm.dev/load"
"""Holds the Job's name."""

POD_SCRIPT = "/etc/aefm/script.lua"
"""Where the script lies in a pod, whatever its name is here."""

_PLAN, _PORT = "plan.json", 7411
_INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
_CPU_MILLI, _MEMORY, _MEMORY_LIMIT = 250, "96Mi", "512Mi"
_FORGOTTEN_S = 600
_LEAD_S = 1.0
"""From the last pod's arrival to the first request: the generators open their connections, and we learn their clock."""


@dataclass(frozen=True)
class LoadPods:
    """One load run's objects. ``parts`` are what its pods do, ``deadline_s`` how long they wait for one another.

    ``priority_class`` is that of the pods, None for the cluster's default.
    """

    name: str
    namespace: str
    run: str
    image: str
    nodes: Sequence[str]
    parts: Sequence[Part]
    url: str
    deadline_s: float
    priority_class: str | None = None

    @property
    def template(self) -> Json:
        """The pods as they are asked for: metadata and spec."""
        # Proxies of a service mesh beside the generator would be measured with it.
        stays = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
        return {"metadata": unmeshed(self._labels, stays), "spec": self._pod()}

    @property
    def _labels(self) -> dict[str, str]:
        return {RUN_LABEL: self.run, ROLE_LABEL: LOAD, APP_LABEL: "aefm-load", LOAD_LABEL: self.name}

    def service(self) -> Json:
        """Return the Service that leads to the first pod, also before that is ready."""
        return {
            **self._head("v1", "Service"),
            "spec": {
                "selector": {LOAD_LABEL: self.name, _INDEX_LABEL: "0"},
                "ports": [{"name": "meet", "port": _PORT, "targetPort": _PORT, "protocol": "TCP"}],
                "publishNotReadyAddresses": True,
            },
        }

    def config_map(self, script: bytes, meeting_host: str | None) -> Json:
        """Return the ConfigMap; ``meeting_host`` is the address of the Service, None where one pod does it all."""
        plan = {
            "protocol": PROTOCOL,
            "url": self.url,
            "script": POD_SCRIPT,
            "lead_s": _LEAD_S,
            "deadline_s": self.deadline_s,
            "meeting": {"host": meeting_host, "port": _PORT, "token": self.name},
            "parts": [{"shift_s": part.shift_s, "load": dataclasses.asdict(part.load)} for part in self.parts],
        }
        scripts = {POD_SCRIPT.rpartition("/")[2]: base64.b64encode(script).decode("ascii")}
        return {
            **self._head("v1", "ConfigMap"),
            "immutable": True,
            "data": {_PLAN: json.dumps(plan)},
            "binaryData": scripts,
        }

    def job(self) -> Json:
        """Return the Job, one pod for each part; it ends by itself unless its deadline is put off."""
        return {
            **self._head("batch/v1", "Job"),
            "spec": {
                "completionMode": "Indexed",
                "completions": len(self.parts),
                "parallelism": len(self.parts),
                "backoffLimit": 0,
                "activeDeadlineSeconds": round(GRACE_S),  # put off as long as the run lives
                "ttlSecondsAfterFinished": _FORGOTTEN_S,
                "template": self.template,
            },
        }

    def _head(self, api_version: str, kind: str) -> Json:
        metadata = {"name": self.name, "namespace": self.namespace, "labels": self._labels}
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata}

    def _pod(self) -> Json:
        priority = {"priorityClassName": self.priority_class} if self.priority_class else {}
        return {
            **priority,
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 2,
            # Names with a dot are asked for as they are first: one question, not one for each search domain.
            "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
            "affinity": self._affinity(),
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": {LOAD_LABEL: self.name}},
                }
            ],
            "securityContext": {**pod_security(), "fsGroup": pod_security()["runAsGroup"]},
            "containers": [self._container()],
            "volumes": [
                {"name": "plan", "configMap": {"name": self.name}},
                {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
            ],
        }

    def _affinity(self) -> Json:
        under_test: Mapping[str, str] = {RUN_LABEL: self.run, ROLE_LABEL: UNDER_TEST}
        apart = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": dict(under_test)}}
        return {
            "nodeAffinity": only_on(self.nodes),
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]},
        }

    def _container(self) -> Json:
        threads = max(part.load.threads for part in self.parts)
        return {
            "name": "load",
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["python3", "-P", "-m", "pytest_aefm.load.agent", "--plan", f"/etc/aefm/{_PLAN}"],
            # No limit of CPU: a generator that is throttled sends late.
            "resources": {
                "requests": {"cpu": f"{_CPU_MILLI * threads}m", "memory": _MEMORY},
                "limits": {"memory": _MEMORY_LIMIT},
            },
            "securityContext": container_security(),
            "volumeMounts": [
                {"name": "plan", "mountPath": "/etc/aefm", "readOnly": True},
                {"name": "tmp", "mountPath": "/tmp"},
            ],
        }
