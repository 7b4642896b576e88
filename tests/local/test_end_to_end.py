"""The whole path on this machine: real services, real interference, the real generator, killed in every way."""

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

from pytest_aefm.journal import read_journal
from pytest_aefm.report import Report
from tests.noise import disturbed, patience

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text())
_TEST = """
import os, signal, threading
import pytest

@pytest.mark.aefm(app="hotel", script="hotel/search.lua", rate={rate}, cpu={cpu}, duration={duration}, warmup=1,
                  order="cost", slos={slos})
def test_search(aefm_run, aefm_app, aefm_case):
    {body}
"""


class Project:
    """A folder with one experiment, and a pytest to run in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "pytest.ini").write_text("[pytest]\n")

    def test(
        self,
        *,
        rate: str = "20",
        cpu: str = "0",
        duration: str = "3",
        slos: str = '["p95 < 1s"]',
        body: str = "aefm_run()",
    ) -> None:
        """Write the experiment."""
        text = _TEST.format(rate=rate, cpu=cpu, duration=duration, slos=slos, body=body)
        (self.path / "test_it.py").write_text(text)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start pytest in the folder, in a session of its own."""
        with (self.path / "output.txt").open("w") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "pytest", *arguments],
                cwd=self.path,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                # A shell's background jobs ignore SIGINT, and so would pytest.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run pytest; return its exit status and what it printed. What noise made invalid is repeated."""
        for last in patience():
            status = self.start(*arguments).wait(120)
            if last or not disturbed(self.path / "aefm-report.json"):
                break
        return status, self.output()

    def output(self) -> str:
        """Return what pytest printed."""
        return (self.path / "output.txt").read_text()

    def report(self) -> dict[str, Any]:
        """Return the report, checked against its schema."""
        document = json.loads((self.path / "aefm-report.json").read_text())
        jsonschema.validate(document, SCHEMA)
        assert isinstance(document, dict)
        return document

    def journal(self) -> Report:
        """Return what the run's journal tells."""
        (path,) = self.path.glob(".aefm/runs/*/journal.jsonl")
        report = Report()
        for message in read_journal(path):
            report.apply(message)
        return report


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project."""
    return Project(tmp_path)


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.05)


def in_second_load(project: Project) -> bool:
    """Return whether the first trial is in the journal and the second case's load runs."""
    paths = list(project.path.glob(".aefm/runs/*/journal.jsonl"))
    if not paths:
        return False
    told = list(read_journal(paths[0]))
    phases = [message for message in told if message["kind"] == "phase" and message["phase"] == "load"]
    return len(phases) >= 2 and any(message["kind"] == "trial" for message in told)


def descendants(pid: int) -> set[psutil.Process]:
    """Return the living descendants of a process."""
    return set(psutil.Process(pid).children(recursive=True))


def alive(processes: set[psutil.Process]) -> list[str]:
    """Return the command lines of those that still run."""
    found = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.NoSuchProcess:
            continue
    return found


def test_search_under_interference(project: Project) -> None:
    """Two cases run, one of them disturbed with a proven dose; report, metrics and checks are complete."""
    project.test(cpu="[0, 2]", rate="200")
    status, output = project.run()
    assert 0 == status, output
    quiet, disturbed = project.report()["trials"]
    assert ("hotel-cpu0-200rps", "hotel-cpu2-200rps") == (quiet["case"], disturbed["case"])
    (dose,) = disturbed["doses"]
    assert dose["ok"]
    assert dose["share"] >= 0.9
    assert disturbed["effect"]["run_delay_ms_per_s"]["frontend"] > 0
    assert disturbed["metrics"]["p50"] > quiet["metrics"]["p50"]
    assert {"cpu(search)", "self_time(rate, p95)", "restarts", "p99"} <= set(quiet["metrics"])
    assert 0 < quiet["metrics"]["cpu(frontend)"] < 1
    assert {"traces", "testbed"} <= {name for name, state in quiet["collectors"].items() if state["ok"]}
    assert quiet["load"]["offered"] == quiet["collectors"]["traces"]["traces"]


def test_tightened_slo_fails(project: Project) -> None:
    """An SLO that cannot hold exits 1 with metric, limit and observed value."""
    project.test(slos='["p95 < 1ms"]', rate="40")
    status, output = project.run()
    assert 1 == status
    assert "limit < 1 ms" in output
    assert "SLOViolated: p95 " in output
    assert "violated" == project.report()["trials"][0]["verdict"]


def test_killed_service_violates_and_is_redeployed(project: Project) -> None:
    """A service that is killed in the window violates `restarts == 0`, is named, and the next case has it anew."""
    body = (
        'kill = lambda: os.kill(aefm_app.services["rate"]["pid"], signal.SIGKILL)\n'
        "    timer = threading.Timer(2.5, kill) if aefm_case.load.rate_rps == 20 else threading.Timer(0, int)\n"
        "    timer.start()\n    aefm_run()\n"
    )
    project.test(rate="[20, 25]", duration="4", body=body)
    status, output = project.run()
    assert 1 == status
    killed, after = project.report()["trials"]
    assert ("violated", "passed") == (killed["verdict"], after["verdict"]), output
    (restarts,) = [slo for slo in killed["slos"] if slo["metric"] == "restarts"]
    assert (1.0, "violated", "rate") == (restarts["observed"], restarts["verdict"], restarts["reason"])
    assert killed["environment"]["generation"] < after["environment"]["generation"]


def test_overload_is_violated_not_invalid(project: Project) -> None:
    """A rate far above capacity is a result: violated by goodput and latency, and said to be overloaded."""
    project.test(rate="600", slos='["p99 < 1s"]')
    status, output = project.run()
    assert 1 == status
    (trial,) = project.report()["trials"]
    assert ("violated", True) == (trial["verdict"], trial["metrics"]["overloaded"]), trial["reason"]
    assert {"goodput", "p99"} <= {finding["subject"] for finding in trial["findings"]}
    assert "overloaded" in output


def test_kill_9_leaves_nothing_and_keeps_finished_trials(project: Project) -> None:
    """SIGKILL of pytest in a load with interference: ten seconds later no process is left, and the journal is whole."""
    project.test(rate="[20, 25]", cpu="1", duration="6")
    process = project.start()
    wait_for(lambda: in_second_load(project), 60, "the second load")
    left = descendants(process.pid)
    assert any("stress-ng" in command for command in alive(left))
    process.kill()
    process.wait()
    wait_for(lambda: not alive(left), 10, f"the end of {alive(left)}")
    report = project.journal()
    assert [120] == [trial["load"]["offered"] for trial in report.trials]
    assert 1 == len(report.running)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_nothing_and_reports(project: Project, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM: nothing is left, the report holds every finished trial, exit 2, old priorities back."""
    project.test(rate="[20, 25]", cpu="1", duration="6")
    process = project.start()
    wait_for(lambda: in_second_load(project), 60, "the second load")
    left = descendants(process.pid)
    os.kill(process.pid, number)
    assert 2 == process.wait(15), project.output()
    assert [] == alive(left)
    trials = project.report()["trials"]
    assert [120] == [trial["load"]["offered"] for trial in trials]
    assert "Traceback" not in project.output()


def test_unknown_application_is_refused(project: Project) -> None:
    """An application without a local model is a broken trial that names what there is."""
    project.test()
    path = project.path / "test_it.py"
    path.write_text(path.read_text().replace('app="hotel"', 'app="hotle"'))
    status, output = project.run()
    assert 1 == status
    assert "did you mean 'hotel'?" in output


def test_missing_stress_ng_is_found_before_deployment(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without stress-ng a disturbed case is broken with the line that installs it, and nothing is deployed."""
    monkeypatch.setenv("PATH", str(project.path))
    project.test(cpu="1")
    status, output = project.run()
    assert 1 == status
    assert "stress-ng" in output
    assert "apt-get install" in output
    assert {} == project.report()["trials"][0]["environment"]


def test_missing_generator_says_why(project: Project) -> None:
    """Without the generator a case is broken, and the message says how to get it."""
    project.test()
    (project.path / "conftest.py").write_text(
        "import shutil, sys\nfrom pathlib import Path\n"
        "sys.executable = str(Path('nowhere') / 'python')\nshutil.which = lambda name: None\n"
    )
    status, output = project.run()
    assert 1 == status
    assert "load driver aefm-wrk: not found" in output
    assert "libluajit-5.1-dev" in output
