"""The lifecycle as pytest hooks: implement one in a ``conftest.py`` or a plugin.

Hooks of a case run in the process that runs the test (under xdist: a worker) and are asked through the test's own
``conftest.py`` files. ``pytest_aefm_report`` runs in the controller, which under ``-n`` reads only the initial
``conftest.py`` files and plugins. What a hook of a case raises makes its trial broken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_aefm.collectors import Collector
    from pytest_aefm.load import Driver
    from pytest_aefm.model import Case, Trial
    from pytest_aefm.testbeds import Deployment

__all__ = [
    "pytest_aefm_case_cost",
    "pytest_aefm_case_finish",
    "pytest_aefm_case_start",
    "pytest_aefm_collect_start",
    "pytest_aefm_collectors",
    "pytest_aefm_driver",
    "pytest_aefm_environment_ready",
    "pytest_aefm_experiment_finish",
    "pytest_aefm_experiment_start",
    "pytest_aefm_factor_changed",
    "pytest_aefm_report",
]


def pytest_aefm_experiment_start(item: pytest.Item, experiment: str) -> None:
    """Called in each process before the first case of an experiment is set up.

    Where: the process that runs the test.

    Example::

        def pytest_aefm_experiment_start(experiment):
            print(f"experiment {experiment} begins")
    """


def pytest_aefm_environment_ready(item: pytest.Item, case: Case, deployment: Deployment) -> None:
    """Called when the application has been deployed, at first or anew, and answers; before it is disturbed.

    Where: the process that runs the test.

    Example::

        import urllib.request

        def pytest_aefm_environment_ready(deployment):
            status = urllib.request.urlopen(deployment.url + "/ok").status
            print(f"{deployment.app} answers {status}")
    """


def pytest_aefm_factor_changed(item: pytest.Item, case: Case, factor: str, old: Any, new: Any) -> None:
    """Called before a case's load for each factor whose value differs from the case before (``old`` None: the first).

    This is the place to bring about what a factor of your own means.

    Where: the process that runs the test.

    Example::

        def pytest_aefm_factor_changed(factor, old, new):
            if factor == "payload":
                print(f"payload {old} -> {new}")
    """


def pytest_aefm_case_start(item: pytest.Item, case: Case) -> None:
    """Called right before a case's load, when application and interference are as the case wants them.

    Where: the process that runs the test.

    Example::

        def pytest_aefm_case_start(case):
            print(f"case {case.id} at {case.load.rate_rps:g} req/s")
    """


def pytest_aefm_collect_start(item: pytest.Item, case: Case) -> None:
    """Called when the load has ended, before the collectors run.

    Where: the process that runs the test.

    Example::

        def pytest_aefm_collect_start(case):
            print(f"collecting for {case.id}")
    """


def pytest_aefm_case_finish(item: pytest.Item, case: Case, trial: Trial) -> None:
    """Called with the judged trial, whatever its verdict, before the test goes on.

    Where: the process that runs the test.

    Example::

        def pytest_aefm_case_finish(case, trial):
            print(f"case {case.id} {trial.verdict}")
    """


def pytest_aefm_experiment_finish(config: pytest.Config, experiment: str) -> None:
    """Called in each process at the end of the session, for each experiment of which it ran a case.

    Where: each process that ran a case of it.

    Example::

        def pytest_aefm_experiment_finish(experiment):
            print(f"experiment {experiment} is over")
    """


@pytest.hookspec(firstresult=True)
def pytest_aefm_driver(config: pytest.Config) -> Driver | None:
    """Return the load driver to use; the first that is not None wins, else the bundled ``aefm-wrk`` is used.

    Where: each process that runs tests.

    Example::

        from pytest_aefm.load.aefm_wrk import AefmWrk

        def pytest_aefm_driver(config):
            print("driver chosen")
            return AefmWrk.find()
    """


def pytest_aefm_collectors(item: pytest.Item, case: Case) -> Sequence[Collector]:
    """Return collectors to run besides those of the testbed.

    Where: the process that runs the test.

    Example::

        from pytest_aefm.collectors import Observations

        class Weather:
            name = "weather"
            provides = frozenset()

            def collect(self, window):
                print("weather observed")
                return Observations(details={"sky": "clear"})

        def pytest_aefm_collectors(case):
            return [Weather()]
    """
    return ()


@pytest.hookspec(firstresult=True)
def pytest_aefm_case_cost(config: pytest.Config, case: Case, previous: Case | None) -> float | None:
    """Return how many seconds a case takes after ``previous``, for the plan and the progress; None: do not know.

    It must depend on its arguments alone: every worker computes it.

    Where: each process that collects tests.

    Example::

        def pytest_aefm_case_cost(case, previous):
            print("cost asked")
            return case.load.duration_s + 2
    """


def pytest_aefm_report(config: pytest.Config, report: Mapping[str, Any]) -> None:
    """Called in the controller with the report before it is written; change it in place.

    Where: the controller.

    Example::

        def pytest_aefm_report(report):
            report["run"]["team"] = "search"
            print("report edited")
    """
