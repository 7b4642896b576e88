"""A Prometheus of our own: found, configured, run beside the generator, its targets a file that may change."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_aefm.supervisor import Process, Supervisor
from pytest_aefm.testbeds.local_app import free_ports
from pytest_aefm.testbeds.local_probe import is_ready

__all__ = ["JOB", "LocalPrometheus", "configuration", "find_prometheus", "start_prometheus", "targets"]

JOB = "aefm"


def find_prometheus(path: str | None = None) -> Path | None:
    """Return the Prometheus on ``path`` (default: PATH), else the one beside the interpreter, else None."""
    found = shutil.which("prometheus", path=path)
    if found is None:
        beside = Path(sys.executable).parent / "prometheus"
        return beside if os.access(beside, os.X_OK) and beside.is_file() else None
    return Path(found)


def configuration(targets_file: Path, scrape_interval_s: float) -> str:
    """Return the configuration file (JSON is YAML, too): scrape what ``targets_file`` lists."""
    every = f"{round(scrape_interval_s * 1000)}ms"
    discovery = {"files": [str(targets_file.absolute())], "refresh_interval": "5s"}
    job = {"job_name": JOB, "file_sd_configs": [discovery]}
    return json.dumps({"global": {"scrape_interval": every, "scrape_timeout": every}, "scrape_configs": [job]})


def targets(ports: Mapping[str, int]) -> str:
    """Return the file of targets: every service under its name."""
    return json.dumps([{"targets": [f"127.0.0.1:{port}"], "labels": {"service": name}} for name, port in ports.items()])


@dataclass(frozen=True, slots=True)
class LocalPrometheus:
    """A running Prometheus."""

    process: Process
    port: int
    targets_file: Path

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def watch(self, ports: Mapping[str, int]) -> None:
        """Scrape these services, and no others; Prometheus takes up to 5 s to take up a change."""
        text = targets(ports)
        if self.targets_file.read_text(encoding="utf-8") != text:
            _replace(self.targets_file, text)

    def trouble(self) -> str | None:
        """Return why it cannot be asked, None if it can."""
        if not self.process.alive:
            return f"Prometheus ended; {self.process.log_tail(3)}"
        seen = is_ready(self.port)
        return None if seen is None else f"Prometheus is not ready: {seen}"


def start_prometheus(
    program: Path,
    supervisor: Supervisor,
    folder: Path,
    cpus: Collection[int],
    scrape_interval_s: float,
    ports: Mapping[str, int],
) -> LocalPrometheus:
    """Start Prometheus on ``cpus`` at nice 10, with its data in ``folder``; does not wait for it.

    Its first scrape comes 5 s after its start (prometheus/discovery sends targets at most that often), so that it
    had better know the services' ``ports`` from the start.

    Raises:
        SupervisorError: it cannot be started. OSError: ``folder`` cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config, targets_file, (port,) = folder / "prometheus.yaml", folder / "targets.json", free_ports(1)
    _replace(targets_file, targets(ports))
    config.write_text(configuration(targets_file, scrape_interval_s), encoding="utf-8")
    argv = [
        str(program),
        f"--config.file={config.absolute()}",
        f"--storage.tsdb.path={(folder / 'data').absolute()}",
        "--storage.tsdb.retention.time=7d",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    log, one_thread = folder / "prometheus.log", {"GOMAXPROCS": "1"}
    process = supervisor.spawn(argv, name="prometheus", log=log, cpus=cpus, nice=10, env=one_thread)
    return LocalPrometheus(process, port, targets_file)


def _replace(path: Path, text: str) -> None:
    """Write a file whole: Prometheus must not read half of it."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
