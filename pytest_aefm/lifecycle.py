"""The lifecycle's hooks, called in the process that runs the tests, each once for what it tells of.

What a hook failed to bring about is remembered: later cases that want it are broken at once, naming the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from pytest_aefm.recording import CLEANUP

if TYPE_CHECKING:
    from pytest_aefm.model import Case, Scalar
    from pytest_aefm.testbeds import Deployment

__all__ = ["end_experiments", "tell_environment", "tell_experiment", "tell_factors"]

_Experiment = tuple[str, str]
"""An experiment's name, and where it is written: names alone may be the same."""


@dataclass
class _Told:
    """What this process has told of so far; of factors and environments only what the hooks have brought about."""

    experiments: dict[_Experiment, dict[str, Scalar]] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)
    failures: dict[tuple[object, ...], str] = field(default_factory=dict)


_TOLD = pytest.StashKey[_Told]()


def tell_experiment(item: pytest.Item, case: Case) -> None:
    """Call the hook of an experiment's start before its first case in this process."""
    started = _told(item.config).experiments
    if _experiment(case) not in started:
        started[_experiment(case)] = {}
        item.ihook.pytest_aefm_experiment_start(item=item, experiment=case.experiment)


def tell_environment(item: pytest.Item, case: Case, deployment: Deployment) -> None:
    """Call the hook of a ready environment for a deployment that it has not been called for.

    Raises:
        DeploymentError: the hook failed for this deployment before.
    """
    told = _told(item.config)
    app, generation = deployment.app, deployment.generation
    if told.generations.get(app) != generation:
        with _remembering(item, ("environment", app, generation), f"environment of {app!r}"):
            item.ihook.pytest_aefm_environment_ready(item=item, case=case, deployment=deployment)
        told.generations[app] = generation


def tell_factors(item: pytest.Item, case: Case) -> None:
    """Call the hook of changed factors for each whose value is not the one that it has brought about last.

    Raises:
        DeploymentError: the hook failed for one of these values before.
    """
    experiment = _experiment(case)
    values = _told(item.config).experiments.setdefault(experiment, {})
    for factor, new in case.factors.items():
        if factor in values and values[factor] == new:
            continue
        old = values.pop(factor, None)  # nobody knows what a hook leaves that fails
        with _remembering(item, ("factor", experiment, factor, new), f"factor {factor}={new}"):
            item.ihook.pytest_aefm_factor_changed(item=item, case=case, factor=factor, old=old, new=new)
        values[factor] = new


def end_experiments(config: pytest.Config) -> None:
    """Call the hook of an experiment's end for each of this process; what it raises is told, and stops nothing."""
    for name, _ in _told(config).experiments:
        try:
            config.hook.pytest_aefm_experiment_finish(config=config, experiment=name)
        except Exception as error:
            config.stash.setdefault(CLEANUP, []).append(f"pytest_aefm_experiment_finish of {name}: {error!r}")


def _told(config: pytest.Config) -> _Told:
    if _TOLD not in config.stash:
        config.stash[_TOLD] = _Told()
    return config.stash[_TOLD]


def _experiment(case: Case) -> _Experiment:
    return case.experiment, case.origin


@contextmanager
def _remembering(item: pytest.Item, state: tuple[object, ...], subject: str) -> Iterator[None]:
    """Refuse a state for which its hook failed before; remember it if it fails now."""
    failures = _told(item.config).failures
    if state in failures:
        from pytest_aefm.errors import DeploymentError

        raise DeploymentError(subject, f"its hook failed before and is not tried again: {failures[state]}")
    try:
        yield
    except pytest.exit.Exception:  # it is an Exception, and says nothing of the state
        raise
    except (Exception, pytest.fail.Exception) as error:
        failures[state] = f"{type(error).__name__}: {error}"
        raise
