"""``kill -9`` of pytest at any moment: what disturbs and drives ends by itself, and the next run removes the rest.

A kill takes about a minute: AEFM_BARS=1 runs one at each moment, AEFM_KILLS=5 as many of each.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_aefm.journal import read_journal
from pytest_aefm.report import Report
from pytest_aefm.testbeds.kubernetes.connection import Connection
from pytest_aefm.testbeds.kubernetes.edits import RUN_LABEL
from pytest_aefm.testbeds.kubernetes.manifests import INTERFERENCE, LOAD, ROLE_LABEL, UNDER_TEST
from pytest_aefm.testbeds.kubernetes.removing import find_leftovers
from tests.cluster.project import Project, wait_for

pytestmark = pytest.mark.skipif(not os.environ.get("AEFM_BARS"), reason="takes minutes: AEFM_BARS is not set")

TURNS = range(int(os.environ.get("AEFM_KILLS", "1")))
_GONE_S = 60.0


@dataclass
class Victim:
    """A run that is to be killed, and what the cluster has of it."""

    project: Project
    connection: Connection
    process: subprocess.Popen[str]

    @property
    def runs(self) -> list[Path]:
        """The folders of runs."""
        return list((self.project.folder / ".aefm" / "runs").glob("*"))

    @property
    def journal(self) -> str:
        """What it has written down so far."""
        return "".join(path.read_text() for folder in self.runs for path in folder.glob("journal.jsonl"))

    def pods(self, role: str) -> list[dict[str, Any]]:
        """Return its pods of a role that have not ended."""
        selector = f"{RUN_LABEL}={self.runs[0].name},{ROLE_LABEL}={role}"
        listed = self.connection.get("/api/v1/pods", labelSelector=selector)["items"]
        return [pod for pod in listed if pod["status"].get("phase") in (None, "Pending", "Running")]

    def disturbs(self) -> bool:
        """Whether anything of it disturbs, or drives a load."""
        return bool(self.pods(INTERFERENCE) or self.pods(LOAD))

    def trials(self) -> list[dict[str, Any]]:
        """Return the trials that its journal has, finished or not."""
        report = Report()
        for message in read_journal(self.runs[0] / "journal.jsonl"):
            report.apply(message)
        return list(report.trials)


@pytest.fixture
def start(project: Project, connection: Connection, request: pytest.FixtureRequest) -> Iterator[Callable[..., Victim]]:
    """Return what starts a run of two cases with interference, long enough to be killed at some moment."""
    started: list[subprocess.Popen[str]] = []

    def begin(duration: str, *, inside: bool) -> Victim:
        if inside:
            image = request.getfixturevalue("load_image")
            project.options += ["--aefm-load-from", "cluster", "--aefm-load-pods", "2", "--aefm-load-image", image]
        project.write(cpu=[1], interference={"cpu": {"cpu_size": 0.2}}, duration=duration, rounds=2)
        started.append(project.start("-q"))
        victim = Victim(project, connection, started[-1])
        wait_for("no run", lambda: bool(victim.runs), 60)
        return victim

    yield begin
    for process in started:
        process.kill()
        print(process.communicate()[0])


@pytest.fixture
def bystander(connection: Connection, run_id: str) -> Iterator[Callable[[], str]]:
    """Return what reads the version of an object of somebody else's, which nobody is to touch."""
    name = f"bystander-{run_id}"
    made = connection.create(
        "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    )
    path = f"/api/v1/namespaces/{name}/configmaps"
    connection.create(path, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}})
    yield lambda: str(connection.get(f"{path}/theirs")["metadata"]["resourceVersion"])
    connection.delete(f"/api/v1/namespaces/{name}", made["metadata"]["uid"])


MOMENTS: dict[str, Callable[[Victim], bool]] = {
    "deployment": lambda victim: bool(victim.pods(UNDER_TEST)),
    "interference": lambda victim: bool(victim.pods(INTERFERENCE)),
    "load": lambda victim: '"phase":"load"' in victim.journal,
    "load from inside": lambda victim: '"phase":"load"' in victim.journal and bool(victim.pods(LOAD)),
    "second case": lambda victim: '"kind":"trial"' in victim.journal,
    "teardown": lambda victim: '"phase":"load"' in victim.journal,
}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_leaves_nothing_for_long(
    moment: str, turn: int, start: Callable[..., Victim], project: Project, bystander: Callable[[], str]
) -> None:
    """Interference and load are gone within 60 s, the rest after the next run; what was finished is in the journal."""
    victim = start("5s" if moment == "second case" else "40s", inside=moment == "load from inside")
    theirs = bystander()
    wait_for(f"no {moment}", lambda: MOMENTS[moment](victim), 150)
    if moment == "teardown":
        victim.process.send_signal(signal.SIGINT)
        wait_for("no end", lambda: not victim.pods(INTERFERENCE), 60)
    victim.process.kill()
    victim.process.wait()
    gone_s = wait_for("still disturbed", lambda: not victim.disturbs(), _GONE_S + 15)
    print(f"killed during {moment}, turn {turn}: interference and load gone after {gone_s:.1f} s")
    assert gone_s <= _GONE_S
    assert (moment == "second case") <= any(trial["verdict"] in ("passed", "invalid") for trial in victim.trials())
    run = victim.runs[0].name
    shutil.rmtree(project.folder / ".aefm")
    project.write()
    _, printed = project.run()
    assert project.report()["trials"][0]["verdict"] in ("passed", "invalid"), printed  # what is noise is no leftover
    assert [] == [str(item) for item in find_leftovers(victim.connection, run)]
    assert theirs == bystander()
