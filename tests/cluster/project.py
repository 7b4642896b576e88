"""A folder with a small experiment for a cluster, and a pytest that runs it as a user would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.conftest import BASE_IMAGE, TestCluster
from tests.noise import disturbed, patience

SHOP = """
app: shop
entry: front
smoke: [{path: /ok}]
services:
  front:
    cpu_limit: 0.2
    memory_limit: 128Mi
    endpoints: [{path: /ok, steps: [{cpu_us: 300}, {call: {service: back, endpoint: /ok}}]}]
  back:
    cpu_limit: 0.2
    memory_limit: 128Mi
    endpoints: [{path: /ok, steps: [{cpu_us: 300}]}]
"""
SCRIPT = 'function request() return wrk.format("GET", "/ok") end\n'
EXPERIMENT: Mapping[str, Any] = {
    "app": "shop.yaml",
    "script": "shop.lua",
    "rate": 20,
    "duration": "3s",
    "warmup": "500ms",
    "slos": ["p50 < 2s", "goodput >= 90%"],
}


@dataclass
class Project:
    """Runs pytest on the experiment in ``folder`` against a cluster, in turns of its own lease."""

    cluster: TestCluster
    folder: Path
    image: str
    lease: str
    options: list[str] = field(default_factory=list)
    prefix: list[str] = field(default_factory=list)

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """The nodes as an experiment names them: the first worker has what is under test."""
        first, second = (f"{self.cluster.name}-worker-{number}" for number in (1, 2))
        return [{"name": first, "roles": ["testbed"]}, {"name": second, "roles": ["infra", "load"]}]

    def write(self, **more: Any) -> None:
        """Write the experiment, with these keys besides the usual ones."""
        (self.folder / "pytest.ini").write_text("[pytest]\n")
        (self.folder / "shop.yaml").write_text(SHOP)
        (self.folder / "shop.lua").write_text(SCRIPT)
        experiment = {**EXPERIMENT, "nodes": self.nodes, **more}
        (self.folder / "shop.aefm.yaml").write_text(json.dumps(experiment))

    def command(self, *options: str) -> list[str]:
        """Return the command line of the run."""
        chosen = ["--aefm-lease-namespace", self.lease, "--aefm-kubeconfig", str(self.cluster.kubeconfig)]
        images = ["--aefm-app-image", self.image, "--aefm-stress-image", BASE_IMAGE]
        base = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "shop.aefm.yaml", "--aefm-allow-shared"]
        return [*self.prefix, *base, *chosen, *images, *self.options, *options]

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start pytest in the folder."""
        dropped = ("PYTEST_", "KUBECONFIG")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        return subprocess.Popen(
            self.command(*options),
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Where these tests run in the background, a shell has it ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *options: str, timeout_s: float = 180.0) -> tuple[int, str]:
        """Run pytest in the folder; return its exit status and what it printed. What noise made invalid is repeated."""
        for last in patience():
            process = self.start(*options)
            try:
                printed, _ = process.communicate(timeout=timeout_s)
            finally:
                process.kill()
            if last or not disturbed(self.folder / "aefm-report.json"):
                break
        print(printed)
        return process.returncode, printed

    def report(self) -> dict[str, Any]:
        """Return the report."""
        document = json.loads((self.folder / "aefm-report.json").read_text())
        assert isinstance(document, dict)
        return document


def wait_for(what: str, happens: Callable[[], bool], deadline_s: float) -> float:
    """Wait until something happens; return the seconds that took."""
    began = time.monotonic()
    while not happens():
        assert time.monotonic() - began < deadline_s, what
        time.sleep(0.1)
    return time.monotonic() - began
