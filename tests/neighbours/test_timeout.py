"""pytest-timeout: warned of at collection; a case that it ends is broken, and leaves nothing running."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from pytest_aefm.journal import read_journal
from pytest_aefm.report import Report
from tests.neighbours.conftest import without

if TYPE_CHECKING:
    from tests.neighbours.conftest import Beside
    from tests.plugin.conftest import ExperimentFolder

_REAL = """
import pytest

@pytest.mark.aefm(app="tiny.yaml", script="tiny.lua", rate=[20, 25], cpu=1, duration=4, warmup=0, order="cost")
def test_search(aefm_run):
    aefm_run()
"""
TINY = Path(__file__).parents[1] / "data" / "tiny"  # an application of one service
_FILES = {
    "test_it.py": _REAL,
    **{path.name: path.read_text() for path in TINY.iterdir()},
}
# The alarm that pytest-timeout has set goes off in mid-load, however long the set-up takes on this machine.
_ALARM = """
import signal
import psutil

def pytest_aefm_case_start(case):
    if case.load.rate_rps == 20:
        signal.setitimer(signal.ITIMER_REAL, 2)

def pytest_runtest_teardown(item):
    names = {process.name() for process in psutil.Process().children(recursive=True)}
    print("generator runs:", "aefm-wrk" in names)
"""
# The same for the timer of its thread method.
_TIMER = """
import threading

def pytest_aefm_case_start(item, case):
    if case.load.rate_rps == 25:
        timer = next(one for one in threading.enumerate() if isinstance(one, threading.Timer))
        threading.Timer(2, timer.function, timer.args, timer.kwargs).start()
"""


def test_short_limits_are_warned_of(folder: ExperimentFolder, beside: Beside) -> None:
    """A limit below the estimate is warned of at collection, once for a function, naming both and the method."""
    folder.test("rate=[150, 160], duration=30")
    result = beside("timeout", "--timeout=20", "--timeout-method=thread", "--aefm-plan")
    text = "*::test_it: pytest-timeout allows 20 s, and a case takes about 35 s; *'thread' ends pytest*"
    result.stdout.fnmatch_lines([text])
    assert 1 == result.stdout.str().count("pytest-timeout allows")


@pytest.mark.parametrize(
    ("marker", "ini", "arguments", "warned"),
    [
        ("", "", ("--timeout=60",), False),
        ("", "", (), False),
        ("", "timeout = 5", (), True),
        ("@pytest.mark.timeout(5)", "timeout = 60", ("--timeout=60",), True),
        ("@pytest.mark.timeout(60, method='thread')", "timeout = 5", ("--timeout=5",), False),
        ("", "", ("--timeout=5", "-p", "no:timeout"), False),
    ],
)
def test_the_limit_is_that_of_the_test(
    folder: ExperimentFolder, beside: Beside, marker: str, ini: str, arguments: tuple[str, ...], warned: bool
) -> None:
    """Marker, option and ini value are read as pytest-timeout reads them."""
    path = folder.path / "tox.ini"
    path.write_text(f"{path.read_text()}\n{ini}\n")
    folder.test("duration=30")
    test = next(folder.path.glob("test_*.py"))
    test.write_text(test.read_text().replace("@pytest.mark.aefm", f"{marker}\n@pytest.mark.aefm"))
    assert warned == ("pytest-timeout allows 5 s" in beside("timeout", *arguments, "--aefm-plan").stdout.str())


def test_a_warning_that_is_an_error_is_told_in_one_line(folder: ExperimentFolder, beside: Beside) -> None:
    """Where warnings are errors the limit is a usage error, not a traceback."""
    path = folder.path / "tox.ini"
    path.write_text(path.read_text().replace("filterwarnings = ", "filterwarnings =\n    error\n    "))
    folder.test("duration=30")
    result = beside("timeout", "--timeout=5")
    assert pytest.ExitCode.USAGE_ERROR == result.ret
    assert "pytest-timeout allows 5 s" in result.stderr.str()
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def start(path: Path, conftest: str, *arguments: str) -> subprocess.Popen[str]:
    """Start pytest beside pytest-timeout with a small experiment on the local testbed."""
    for name, text in {**_FILES, "conftest.py": conftest}.items():
        (path / name).write_text(text)
    command = [sys.executable, "-m", "pytest", *without("timeout"), "--timeout=300", *arguments]
    with (path / "output.txt").open("w") as output:
        return subprocess.Popen(command, cwd=path, stdout=output, stderr=subprocess.STDOUT, text=True)


def journal(path: Path) -> Report:
    """Return what the run's journal tells."""
    report = Report()
    for message in read_journal(next(path.glob(".aefm/runs/*/journal.jsonl"))):
        report.apply(message)
    return report


def test_signal_method_breaks_the_case_alone(tmp_path: Path) -> None:
    """The case that is ended in mid-load is broken with its phase; its generator is gone, and the next case passes."""
    process = start(tmp_path, _ALARM, "-s")
    assert 1 == process.wait(120)
    output = (tmp_path / "output.txt").read_text()
    ended, after = journal(tmp_path).trials
    assert ("broken", "error", "load") == (ended["verdict"], ended["outcome"], ended["findings"][0]["subject"]), output
    assert "Timeout (>300.0s) from pytest-timeout" in ended["reason"]
    assert after["verdict"] in ("passed", "invalid"), output
    assert 2 == output.count("generator runs: False")


def test_thread_method_keeps_what_was_finished(tmp_path: Path) -> None:
    """The thread method ends pytest itself: nothing is left running, and the journal has what was finished."""
    process = start(tmp_path, _TIMER, "--timeout-method=thread")
    seen: set[psutil.Process] = set()
    while process.poll() is None:
        try:
            seen |= set(psutil.Process(process.pid).children(recursive=True))
            process.wait(0.2)
        except (subprocess.TimeoutExpired, psutil.NoSuchProcess):
            continue
    assert 1 == process.returncode
    _, left = psutil.wait_procs(seen, timeout=10)
    assert [] == left
    told = journal(tmp_path)
    assert ["tiny-cpu1-20rps"] == [trial["case"] for trial in told.trials]
    assert ["load"] == [message["phase"] for message in told.running.values()]
