"""Several workers on this machine: one that is killed, and Ctrl-C, with real services, stressors and generators."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text())
TINY = Path(__file__).parents[1] / "data" / "tiny"  # an application of one service
_FILES = {
    "pytest.ini": "[pytest]\n",
    **{path.name: path.read_text() for path in TINY.iterdir()},
    "test_it.py": """
import pytest

@pytest.mark.aefm(app="tiny.yaml", script="tiny.lua", rate=[20, 25, 30, 35], cpu=1, duration=4, warmup=0, order="cost")
def test_it(aefm_run):
    aefm_run()
""",
}
CASES = {f"tiny-cpu1-{rate}rps" for rate in (20, 25, 30, 35)}


@pytest.fixture
def run(tmp_path: Path) -> subprocess.Popen[str]:
    """A run of four cases on two workers, in a session of its own."""
    for name, text in _FILES.items():
        (tmp_path / name).write_text(text)
    with (tmp_path / "output.txt").open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", "-n2"],
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # A shell's background jobs ignore SIGINT, and so would pytest.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


def wait_for(condition: Callable[[], Any], run: subprocess.Popen[str], seconds: float = 120) -> Any:
    """Wait until a condition holds while pytest runs; return what it gives."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        assert run.poll() is None, "pytest ended before it happened"
        time.sleep(0.05)
    return found


def messages(folder: Path) -> list[dict[str, Any]]:
    """Return what the run's journal tells so far."""
    lines = [line for path in folder.glob(".aefm/runs/*/journal.jsonl") for line in path.read_text().split("\n")[:-1]]
    return [json.loads(line) for line in lines]


def loads(folder: Path) -> list[str]:
    """Return the node ids whose load has begun."""
    return [message["nodeid"] for message in messages(folder) if message.get("phase") == "load"]


def generator_and_worker(run: subprocess.Popen[str]) -> tuple[psutil.Process, psutil.Process] | None:
    """Return the generator of a load that is measured, not of smoke requests, and the worker above it."""
    for worker in psutil.Process(run.pid).children():
        for process in worker.children(recursive=True):
            try:
                if process.name() == "aefm-wrk" and "4s" in process.cmdline():
                    return process, worker
            except psutil.NoSuchProcess:
                continue
    return None


def test_killed_worker_leaves_one_broken_trial(run: subprocess.Popen[str], tmp_path: Path) -> None:
    """SIGKILL of a worker in mid-load: one report with every case once, the killed one broken with its phase, exit 1,
    and no process is left.
    """
    wait_for(lambda: loads(tmp_path), run)
    generator, worker = wait_for(lambda: generator_and_worker(run), run)
    (victim,) = loads(tmp_path)[-1:]
    seen = set(worker.children(recursive=True))
    worker.kill()
    _, left = psutil.wait_procs(seen, timeout=10)
    assert (False, []) == (generator.is_running(), left)
    status = run.wait(180)
    output = (tmp_path / "output.txt").read_text()
    assert 1 == status, output
    (report,) = [json.loads(path.read_text()) for path in tmp_path.glob(".aefm/runs/*/report.json")]
    jsonschema.validate(report, SCHEMA)
    assert report == json.loads((tmp_path / "aefm-report.json").read_text())
    assert sorted(CASES) == sorted(trial["case"] for trial in report["trials"])
    (broken,) = [trial for trial in report["trials"] if trial["verdict"] == "broken"]
    assert (victim, "error", "the worker crashed in phase 'load'") == (
        broken["nodeid"],
        broken["outcome"],
        broken["reason"],
    )
    assert [] == [process for process in psutil.process_iter() if _works_in(process, tmp_path)]


def test_interrupt_of_all_workers_leaves_nothing(run: subprocess.Popen[str], tmp_path: Path) -> None:
    """Ctrl-C in the second load, which a terminal sends to all: exit 2, finished trials reported, nothing left."""
    wait_for(lambda: len(loads(tmp_path)) >= 2, run)
    wait_for(lambda: generator_and_worker(run), run)
    seen = set(psutil.Process(run.pid).children(recursive=True))
    os.killpg(run.pid, signal.SIGINT)
    assert 2 == run.wait(30), (tmp_path / "output.txt").read_text()
    _, left = psutil.wait_procs(seen, timeout=5)
    assert [] == left
    report = json.loads((tmp_path / "aefm-report.json").read_text())
    assert 1 == len([trial for trial in report["trials"] if trial["load"]])
    assert "Traceback" not in (tmp_path / "output.txt").read_text()


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()) == folder
    except psutil.Error:
        return False
