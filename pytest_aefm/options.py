"""What a user may say of a cluster: one frozen value, light enough for the plugin's entry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["ClusterOptions"]


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """How a cluster is reached, and what is used of it; None where the default is found later.

    ``namespace`` is one that exists; without it a run makes its own. ``entry`` is nodeport, loadbalancer or
    port-forward, ``load_from`` local or cluster. ``allow_shared`` admits pods of others on nodes that are disturbed,
    ``allow_forward`` measurements through a port-forward. Traces are asked for at ``jaeger`` or ``tempo``; a topology's
    services send theirs to ``otlp``.
    """

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str | None = None
    lease_namespace: str | None = None
    wait_s: float = 0.0
    keep: bool = False
    allow_shared: bool = False
    allow_forward: bool = False
    entry: str | None = None
    app_image: str | None = None
    stress_image: str | None = None
    load_image: str | None = None
    load_from: str = "local"
    load_pods: int = 1
    prometheus: str | None = None
    jaeger: str | None = None
    tempo: str | None = None
    otlp: str | None = None

    @property
    def lease_home(self) -> str:
        """The namespace of the lease by which runs take turns: the run's own where that is fixed."""
        return self.lease_namespace or self.namespace or "aefm-system"
