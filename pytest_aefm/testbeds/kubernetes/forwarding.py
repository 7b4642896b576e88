"""A Service brought to this machine by ``kubectl port-forward``: good for a smoke request, not for a measurement.

Every byte goes through the API server and a kubelet, on one connection.
"""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

from pytest_aefm.errors import DeploymentError
from pytest_aefm.options import ClusterOptions
from pytest_aefm.supervisor import Process, Supervisor

__all__ = ["Forward"]

_START_S, _POLL_S = 15.0, 0.05
_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


class Forward:
    """Forwards a port of this machine to a Service; :meth:`url` starts it again where it has ended."""

    def __init__(
        self, supervisor: Supervisor, folder: Path, options: ClusterOptions, namespace: str, service: str, port: int
    ) -> None:
        self._supervisor, self._folder, self._options = supervisor, folder, options
        self._namespace, self._service, self._port = namespace, service, port
        self._process: Process | None = None
        self._url = ""
        self._starts = 0

    def url(self) -> str:
        """Return the URL on this machine.

        Raises:
            DeploymentError: there is no kubectl, or it does not get through.
        """
        if self._process is None or not self._process.alive:
            self._start()
        return self._url

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.stop()

    def _start(self) -> None:
        kubectl = shutil.which("kubectl")
        subject = f"port-forward to Service {self._service!r}"
        if kubectl is None:
            raise DeploymentError(subject, "kubectl not found on PATH", None, "install it, or use another --aefm-entry")
        self._starts += 1
        log = self._folder / f"port-forward-{self._starts}.log"
        chosen = [*(["--context", self._options.context] if self._options.context else [])]
        chosen += ["--kubeconfig", str(self._options.kubeconfig)] if self._options.kubeconfig else []
        where = [f"service/{self._service}", f":{self._port}", "--namespace", self._namespace]
        argv = [kubectl, *chosen, "port-forward", "--address", "127.0.0.1", *where]
        self._process = self._supervisor.spawn(argv, name="port-forward", log=log)
        deadline = time.monotonic() + _START_S
        while (found := _FORWARDING.search(self._process.log_tail())) is None:
            if not self._process.alive or time.monotonic() > deadline:
                raise DeploymentError(subject, f"does not get through\n{self._process.log_tail(5)}".rstrip())
            time.sleep(_POLL_S)
        self._url = f"http://127.0.0.1:{found[1]}"
