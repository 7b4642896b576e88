"""A mesh topology as manifests: for each service a Deployment, a Service, and a ConfigMap that says what it does.

Pods meet PodSecurity's ``restricted`` profile, and ask for exactly what they may use.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_aefm.errors import ConfigurationError
from pytest_aefm.mesh.resolved import ServiceConfig
from pytest_aefm.mesh.topology import Topology
from pytest_aefm.testbeds.kubernetes.edits import quantity
from pytest_aefm.testbeds.kubernetes.manifests import Manifest
from pytest_aefm.testbeds.kubernetes.restricted import container_security, pod_security

__all__ = ["MESH_PORT", "MeshOptions", "mesh_manifests"]

MESH_PORT = 8080
_MEMORY = "256Mi"  # what a service keeps of its own, and some 10 MB where its spans wait
_EXPORT_MS = 1000  # nobody asks pods for their spans
_FOLDER, _FILE = "/etc/aefm", "service.json"


@dataclass(frozen=True)
class MeshOptions:
    """How to serve a topology: ``image`` runs aefm-mesh, see ``docker/mesh.Dockerfile``.

    ``iterations_per_us`` is the calibration of the nodes' CPU; ``otlp_endpoint`` the full URL that takes traces;
    ``node_port`` that of the entry, None for one that the cluster chooses.
    """

    image: str
    iterations_per_us: float
    otlp_endpoint: str | None = None
    node_port: int | None = None
    sample_ratio: float = 1.0
    seed: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


def mesh_manifests(topology: Topology, options: MeshOptions) -> tuple[Manifest, ...]:
    """Return the manifests of a topology; all of it is under test.

    Services call each other by their plain names, so that the namespace and the cluster's domain stay open.

    Raises:
        ConfigurationError: a service's name is none for a Service of Kubernetes.
    """
    for name in topology.services:
        if not re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name):
            subject = f"app {topology.app!r}: services.{name}"
            raise ConfigurationError(subject, "no name for a Service of Kubernetes", "a letter first")
    manifests: list[Manifest] = []
    for name, config in _configs(topology, options).items():
        text = json.dumps(config, indent=1)
        labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": topology.app}
        made = (
            _config_map(name, text, labels),
            _service(name, labels, entry=name == topology.entry, node_port=options.node_port),
            _deployment(topology, name, text, labels, options.image),
        )
        manifests += (Manifest(body, place=f"app {topology.app}") for body in made)
    return tuple(manifests)


def _configs(topology: Topology, options: MeshOptions) -> dict[str, ServiceConfig]:
    # Behind a Service there may be many replicas, all with one configuration.
    single = {name: service.model_copy(update={"replicas": 1}) for name, service in topology.services.items()}
    configs = topology.model_copy(update={"services": single}).resolve(
        dict.fromkeys(single, MESH_PORT),
        iterations_per_us=options.iterations_per_us,
        otlp_endpoint=options.otlp_endpoint,
        sample_ratio=options.sample_ratio,
        seed=options.seed,
        labels=options.labels,
        host="0.0.0.0",
        faults=True,
    )
    for config in configs.values():
        if options.otlp_endpoint:
            config["export_interval_ms"] = _EXPORT_MS
        config["peers"] = {peer: {"urls": [f"http://{peer}:{MESH_PORT}"]} for peer in config["peers"]}
    return configs


def _object(api_version: str, kind: str, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "labels": dict(labels)}}


def _config_map(name: str, text: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {**_object("v1", "ConfigMap", name, labels), "data": {_FILE: text}}


def _service(name: str, labels: Mapping[str, str], *, entry: bool, node_port: int | None) -> dict[str, Any]:
    port: dict[str, Any] = {"name": "http", "port": MESH_PORT, "targetPort": "http", "protocol": "TCP"}
    if entry and node_port is not None:
        port["nodePort"] = node_port
    spec = {"type": "NodePort" if entry else "ClusterIP", "selector": dict(labels), "ports": [port]}
    return {**_object("v1", "Service", name, labels), "spec": spec}


def _deployment(topology: Topology, name: str, text: str, labels: Mapping[str, str], image: str) -> dict[str, Any]:
    # A pod reads its configuration once: a changed one must make new pods, and only those that it concerns.
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    template = {
        "metadata": {"labels": dict(labels), "annotations": {"aefm.dev/config": digest}},
        "spec": _pod(topology, name, image),
    }
    spec = {
        "replicas": topology.services[name].replicas,
        # Under load two generations side by side would be neither; and there is room for one only.
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": dict(labels)},
        "template": template,
    }
    return {**_object("apps/v1", "Deployment", name, labels), "spec": spec}


def _pod(topology: Topology, name: str, image: str) -> dict[str, Any]:
    service = topology.services[name]
    memory = service.memory_limit_bytes
    size = {
        "cpu": quantity(service.cpu_limit, milli=True),
        "memory": _MEMORY if memory is None else quantity(memory),
    }
    ready = {"path": "/-/ready", "port": "http"}
    container = {
        "name": "service",
        "image": image,
        "args": ["--config", f"{_FOLDER}/{_FILE}"],
        "ports": [{"name": "http", "containerPort": MESH_PORT, "protocol": "TCP"}],
        "resources": {"requests": size, "limits": dict(size)},
        # Often until it is up, seldom under load.
        "startupProbe": {"httpGet": ready, "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 120},
        "readinessProbe": {"httpGet": dict(ready), "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3},
        "securityContext": container_security(),
        "volumeMounts": [{"name": "config", "mountPath": _FOLDER, "readOnly": True}],
    }
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        "securityContext": pod_security(),
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": name}}],
    }
