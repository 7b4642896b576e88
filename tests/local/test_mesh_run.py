"""`aefm mesh run`: an application served on this machine without any experiment."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

CHAIN = """\
app: chain
entry: a
smoke: [path: /]
services:
  a: {endpoints: [{path: /, steps: [{call: {service: b, endpoint: /}}]}]}
  b: {replicas: 2, endpoints: [{path: /, response_bytes: 7}]}
"""


def started(folder: Path, *options: str, text: str = CHAIN) -> subprocess.Popen[str]:
    """Start a chain."""
    (folder / "chain.yaml").write_text(text)
    command = [sys.executable, "-m", "pytest_aefm", "mesh", "run", "chain.yaml", *options]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def announced(run: subprocess.Popen[str]) -> list[str]:
    """Return the lines that it prints until it serves."""
    assert run.stdout is not None
    lines = []
    for line in run.stdout:
        lines.append(line.rstrip())
        if line.startswith("Ctrl-C"):
            return lines
    assert run.stderr is not None
    pytest.fail(f"it ended: {run.stderr.read()}")


def test_it_serves_until_ctrl_c(tmp_path: Path) -> None:
    """It prints where its services are, answers, and leaves nothing behind."""
    run = started(tmp_path)
    try:
        *replicas, entry, _ = announced(run)
        assert ["b.1", "b.2"] == [line.split()[0] for line in replicas]
        url = entry.split(" at ")[1].split(",")[0]
        assert 100 == len(urllib.request.urlopen(url, timeout=10).read())
        below = psutil.Process(run.pid).children(recursive=True)
        assert {"aefm-mesh"} <= {process.name() for process in below}
        run.send_signal(signal.SIGINT)
        assert 0 == run.wait(10)
        assert [] == psutil.wait_procs(below, timeout=10)[1]
    finally:
        run.kill()
        run.communicate()


def test_the_page_shows_what_it_prints(tmp_path: Path) -> None:
    """`aefm mesh run chain.yaml` of docs/topology.md prints what the page says, ports apart."""
    page = (Path(__file__).parents[2] / "docs" / "topology.md").read_text()
    text = page.partition("```yaml file=chain.yaml\n")[2].partition("```")[0]
    shown = page.partition("$ aefm mesh run chain.yaml\n")[2].partition("```")[0].splitlines()
    run = started(tmp_path, text=text)
    try:
        printed = announced(run)
        assert [re.sub(r":\d+", "", line) for line in shown] == [re.sub(r":\d+", "", line) for line in printed]
        run.send_signal(signal.SIGINT)
        assert 0 == run.wait(10)
    finally:
        run.kill()
        run.communicate()


def test_a_killed_one_leaves_nothing(tmp_path: Path) -> None:
    """`kill -9` ends all of its services within 10 s."""
    run = started(tmp_path)
    try:
        announced(run)
        below = psutil.Process(run.pid).children(recursive=True)
        assert len(below) >= 4
        run.kill()
        assert [] == psutil.wait_procs(below, timeout=10)[1]
    finally:
        run.kill()
        run.communicate()


def test_a_service_that_ends_ends_the_run(tmp_path: Path) -> None:
    """With status 1, naming the service."""
    run = started(tmp_path)
    try:
        announced(run)
        victim = next(
            one for one in psutil.Process(run.pid).children(recursive=True) if "b.2.json" in one.cmdline()[-1]
        )
        victim.kill()
        deadline = time.monotonic() + 30
        while run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert 1 == run.poll()
        assert run.stderr is not None
        assert "aefm: app 'chain': service 'b.2' has ended" in run.stderr.read()
    finally:
        run.kill()
        run.communicate()


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    """With status 1 and one line."""
    first = started(tmp_path)
    try:
        port = announced(first)[-2].split("127.0.0.1:")[1].split(",")[0]
        second = started(tmp_path, "--port", port)
        _, problem = second.communicate(timeout=60)
        assert 1 == second.returncode
        assert f"port {port} is taken" in problem
    finally:
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=10)
