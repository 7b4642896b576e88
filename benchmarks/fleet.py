"""What the benchmarks of the mesh share: services as processes, what they cost, load on them, the spans they leave."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_aefm.collectors.otlp_store import decode_store
from pytest_aefm.collectors.spans import Spans

__all__ = ["GENERATOR", "MESH", "Fleet", "free_ports", "load", "service"]

MESH = (shutil.which("aefm-mesh") or str(Path(sys.executable).parent / "aefm-mesh"), "--config")
GENERATOR = shutil.which("aefm-wrk") or str(Path(sys.executable).parent / "aefm-wrk")

_COUNT = re.compile(r"^http_server_request_duration_seconds_count\{.*\} (\S+)$", re.MULTILINE)


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody has."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(listener.getsockname()[1]) for listener in listeners]


def service(name: str, port: int, *steps: object, otlp: int | None = None, **more: object) -> dict[str, Any]:
    """Return a resolved service with GET /x of these steps; ``otlp`` is the port that takes its traces."""
    return {
        "app": "bench",
        "service": name,
        "host": "127.0.0.1",
        "port": port,
        "peers": {},
        "endpoints": [{"method": "GET", "path": "/x", "parameters": [], "response_bytes": 100, "steps": steps}],
        "iterations_per_us": 1.0,
        "otlp_endpoint": None if otlp is None else f"http://127.0.0.1:{otlp}/v1/traces",
        "sample_ratio": 1.0,
        "seed": port,
        "labels": {},
        **more,
    }


def load(port: int, *options: object, path: str = "/x", core: int | None = None) -> dict[str, Any]:
    """Return the result of the generator with these options; what it doubts itself is printed."""
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    command = [*pinned, GENERATOR, *map(str, options), "--json", "-", f"http://127.0.0.1:{port}{path}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    print(done.stderr, end="", file=sys.stderr)
    return dict(json.loads(done.stdout))


@dataclass
class Fleet:
    """Services that run, each a process; with a receiver of their spans where ``store`` is a file."""

    folder: Path
    program: Sequence[str] = MESH
    core: int | None = None
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    receiver: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def serving(self, configs: Sequence[Mapping[str, Any]], otlp: int | None = None) -> Iterator[Fleet]:
        """Serve until the block ends; ``otlp`` is the port of a receiver that is started for it."""
        try:
            if otlp is not None:
                command = ["-m", "pytest_aefm.collectors.receiver", "--store", str(self.folder / "store")]
                self.receiver = subprocess.Popen([sys.executable, *command, "--port", str(otlp)])
                self._until_ready(otlp)
            for config in configs:
                self.ports[config["service"]] = config["port"]
                path = self.folder / f"{config['service']}.json"
                path.write_text(json.dumps(config))
                pinned = [] if self.core is None else ["taskset", "-c", str(self.core)]
                self.processes[config["service"]] = subprocess.Popen([*pinned, *self.program, str(path)])
            for port in self.ports.values():
                self._until_ready(port)
            yield self
        finally:
            running = [*self.processes.values(), *([self.receiver] if self.receiver else [])]
            for process in running:
                process.terminate()
            for process in running:
                process.wait(10)

    def ask(self, port: int, path: str, method: str = "GET") -> str:
        """Return the body of an answer, of whatever status."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            connection.request(method, path)
            return connection.getresponse().read().decode()

    def _until_ready(self, port: int) -> None:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                self.ask(port, "/-/ready")
                return
            assert time.monotonic() < deadline, f"nobody answers at port {port}"
            time.sleep(0.002)

    def cpu_s(self) -> float:
        """Return the CPU time of all services so far, in seconds."""
        total_ns = 0
        for process in self.processes.values():
            for thread in Path(f"/proc/{process.pid}/task").iterdir():
                total_ns += int((thread / "schedstat").read_text().split()[0])
        return total_ns / 1e9

    def resident_mb(self) -> float:
        """Return the resident memory of all services, in MB."""
        pages = (int(Path(f"/proc/{p.pid}/statm").read_text().split()[1]) for p in self.processes.values())
        return sum(pages) * os.sysconf("SC_PAGESIZE") / 1e6

    def served(self) -> int:
        """Return how many requests all services have served together."""
        texts = (self.ask(port, "/metrics") for port in self.ports.values())
        return round(sum(float(count) for text in texts for count in _COUNT.findall(text)))

    def spans(self) -> Spans:
        """Return the spans of all services, flushed."""
        for port in self.ports.values():
            answer = json.loads(self.ask(port, "/-/flush", "POST"))
            assert answer["complete"], answer
            assert not answer["spans_dropped"], answer
        return decode_store(self.folder / "store")[0]
