"""Faults of a mesh's services on a cluster: set through the API server, and only for as long as somebody keeps them.

Each replica forgets its faults :data:`GRACE_S` seconds after it last heard of them; a thread tells it again.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from pytest_aefm.errors import AefmError, InterferenceError
from pytest_aefm.mesh.resolved import FaultsConfig, FaultsReport
from pytest_aefm.model import InterferenceSpec
from pytest_aefm.testbeds.faults import Ask, FaultReading, Replicas, read_faults, report_of, set_faults
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection
from pytest_aefm.testbeds.kubernetes.deadman import GRACE_S
from pytest_aefm.testbeds.kubernetes.mesh import MESH_PORT
from pytest_aefm.testbeds.kubernetes.observing import PodMark

__all__ = ["PodFaults"]

_EVERY_S = 10.0
_PATIENCE_S = 2.0


class PodFaults:
    """The faults of a run in ``namespace``; :meth:`converge` makes them those that a case asks for.

    ``pods`` reads those of the application; ``lost`` says why the cluster is not ours any more, None while it is.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        namespace: str,
        pods: Callable[[], PodMark],
        lost: Callable[[], str | None] = lambda: None,
        grace_s: float = GRACE_S,
        every_s: float = _EVERY_S,
    ) -> None:
        self._connection, self._namespace, self._pods, self._lost = connection, namespace, pods, lost
        self._grace_s, self._every_s = grace_s, every_s
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._specs: tuple[InterferenceSpec, ...] = ()
        self._replicas: Replicas = {}

    def converge(self, specs: Sequence[InterferenceSpec]) -> None:
        """Put exactly these faults in force, in all pods that are there now.

        Raises:
            InterferenceError: a service does not take them, or has no pod.
            ApiError: the pods cannot be read.
        """
        with self._lock:
            touched = {str(spec.service) for spec in (*self._specs, *specs)}
            if not touched:
                return
            self._replicas = self._find(touched)
            self._specs = tuple(specs)  # what fails half-way is to be undone
            set_faults(self._replicas, specs, self._grace_s)
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep, name="aefm-faults", daemon=True)
                self._thread.start()

    def read(self) -> tuple[FaultReading, ...]:
        """Ask the disturbed services what they did so far: one request a pod."""
        with self._lock:
            return read_faults(self._replicas, self._specs)

    def stop(self) -> list[str]:
        """End all of it; return what could not be ended, which ends by itself. Never raises."""
        self._stopped.set()
        try:
            self.converge(())
        except AefmError as error:
            return [f"{error}; it ends by itself within {self._grace_s:.0f} s"]
        return []

    def _find(self, services: set[str]) -> Replicas:
        found: dict[str, dict[str, Ask]] = {service: {} for service in services}
        for pod in self._pods().pods.values():
            if pod.workload in services:
                path = f"/api/v1/namespaces/{self._namespace}/pods/{pod.name}:{MESH_PORT}/proxy/-/faults"
                found[pod.workload][pod.name] = partial(self._ask, path)
        return found

    def _ask(self, path: str, config: FaultsConfig | None) -> FaultsReport | str:
        try:
            if config is None:
                return report_of(json.loads(self._connection.text(path, patience_s=_PATIENCE_S)))
            return report_of(self._connection.create(path, dict(config)))
        except (ApiError, ValueError) as error:
            return str(error)

    def _keep(self) -> None:
        """Tell the pods again what they would forget. What one of them misses is seen when its dose is proven."""
        while not self._stopped.wait(self._every_s):
            with self._lock, suppress(InterferenceError):
                if self._specs and self._lost() is None:
                    set_faults(self._replicas, self._specs, self._grace_s)
