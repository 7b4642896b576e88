"""An experiment folder for each test: pytester with the small testbed and three Lua scripts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

# pytester forgets what an inner run imports: numpy cannot be loaded twice, and the others cost most of a run's time.
import numpy  # noqa: F401
import pytest

import pytest_aefm.collection
import pytest_aefm.experiment.schema
import pytest_aefm.load.choice
import pytest_aefm.mesh.checks
import pytest_aefm.report
import pytest_aefm.trial  # noqa: F401
from tests.noise import NOISE, disturbed, patience

_HERE = Path(__file__).parent
_NOISE = NOISE - {"steal"}  # which the small testbed can be asked to find
# Loads of the small testbed are small and its answers slow: such runs do not disturb one another, so each folder is a
# machine of its own.
_CONFTEST = """
import pytest
from pathlib import Path
from small_testbed import SmallTestbed

@pytest.fixture(scope="session")
def aefm_testbed(request):
    testbed = SmallTestbed(request.config.rootpath / ".small", {faults!r}, Path({log!r}))
    yield testbed
    from pytest_aefm.recording import CLEANUP
    request.config.stash.setdefault(CLEANUP, []).extend(testbed.close())

@pytest.fixture(scope="session")
def aefm_lease(request):
    from pytest_aefm.testbeds.lease import MachineLease
    lease = MachineLease("a run of this folder", request.config.rootpath / "machine.lock")
    yield lease
    lease.release()
"""
# The order of an inner run's tests is what many tests are about, also where pytest-randomly shuffles the outer ones.
# In a checkout the project is installed editable, whose import hook pytest meets in vain.
_INI = """
[pytest]
addopts = -p no:randomly
filterwarnings = ignore:Module already imported so cannot be rewritten. _editable:pytest.PytestAssertRewriteWarning
"""
_TEST = """
import pytest

@pytest.mark.aefm(app="shop", script="ok.lua", rate=200, duration=0.4, connections=96, warmup=0, seed=1 {marker})
def test_it(aefm_run):
    {body}
"""


class ExperimentFolder:
    """A folder with a conftest, scripts and tests, and a pytest to run in it."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester, self.path = pytester, pytester.path
        self.log = self.path / "testbed.log"
        for name in ("ok", "fail", "slow"):
            self.path.joinpath(f"{name}.lua").write_text(
                f'function request() return wrk.format("GET", "/{name}") end\n'
            )
        self.pytester.makeini(_INI)
        self.use()

    def use(self, *faults: str) -> None:
        """Write the conftest: the small testbed with these faults."""
        self.pytester.makeconftest(_CONFTEST.format(faults=list(faults), log=str(self.log)))

    def test(self, marker: str = "", body: str = "aefm_run()") -> None:
        """Write the usual test, with more marker arguments and another body."""
        source = _TEST.format(marker=", " + marker if marker else "", body=body)
        for name in ("script", "rate", "duration", "seed"):
            if f"{name}=" in marker:  # the test's own argument replaces the usual one
                source = source.replace(
                    {
                        "script": 'script="ok.lua", ',
                        "rate": "rate=200, ",
                        "duration": "duration=0.4, ",
                        "seed": "seed=1 ",
                    }[name],
                    "",
                    1,
                )
        self.pytester.makepyfile(source)

    def run(self, *arguments: str, subprocess: bool = False) -> pytest.RunResult:
        """Run pytest in the folder; a run that this machine's own noise made invalid is repeated.

        What a run notes in ``events.txt`` goes with it.
        """
        run = self.pytester.runpytest_subprocess if subprocess else self.pytester.runpytest_inprocess
        report = self.path / "aefm-report.json"
        before = report.read_bytes() if report.exists() else None
        for last in patience():
            result = run(*arguments)
            if last or not report.exists() or report.read_bytes() == before or not disturbed(report, _NOISE):
                break
            for stale in (report, self.log, *self.path.glob(".aefm/runs/*/*.json*"), *self.path.glob("events.txt")):
                stale.unlink(missing_ok=True)
            for folder in self.path.glob(".aefm/runs/*"):
                shutil.rmtree(folder)
        return result

    def report(self) -> dict[str, Any]:
        """Return the report."""
        document = json.loads((self.path / "aefm-report.json").read_text())
        assert isinstance(document, dict)
        return document

    def trial(self) -> dict[str, Any]:
        """Return the only trial of the report."""
        (trial,) = self.report()["trials"]
        assert isinstance(trial, dict)
        return trial

    def asked(self) -> list[str]:
        """Return what was asked of the testbed, in order."""
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def folder(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> ExperimentFolder:
    """A folder of experiments, free of what the outer pytest passes on."""
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(_HERE))
    pytester.syspathinsert(_HERE)
    return ExperimentFolder(pytester)
