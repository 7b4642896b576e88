"""The pytest11 entry point: wiring only. It is loaded in every pytest run, so it imports nothing heavy."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from pytest_aefm import fixtures, hooks, lifecycle, recording
from pytest_aefm.cases import case_of, unheard
from pytest_aefm.controller import Controller
from pytest_aefm.settings import SETTINGS, add_options, read_settings, refuse_unwritable, settings_of

_MARKER = (
    "aefm(*experiment, app=..., script=..., rate=..., duration=..., slos=[...], ...): a microservice performance "
    "experiment, from a YAML file, from keyword arguments, or both (the arguments win)"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the options and their ini values."""
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Make the lifecycle's hooks known."""
    pluginmanager.add_hookspecs(hooks)


def pytest_configure(config: pytest.Config) -> None:
    """Read the settings, refuse paths that cannot be written, and register what this process needs."""
    config.addinivalue_line("markers", _MARKER)
    settings = config.stash[SETTINGS] = read_settings(config)
    config.pluginmanager.register(fixtures, "aefm-fixtures")
    config.pluginmanager.register(recording, "aefm-recording")
    if settings.plan:  # the controller of xdist never collects
        for option, nothing in (("numprocesses", None), ("dist", "no"), ("tx", [])):
            if hasattr(config.option, option):
                setattr(config.option, option, nothing)
    if not hasattr(config, "workerinput"):
        refuse_unwritable(config, by_ini=False)
        config.pluginmanager.register(Controller(config), "aefm-controller")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Collect YAML files: those named on the command line, and those whose name says that they are experiments."""
    if file_path.suffix not in (".yaml", ".yml"):
        return None
    ours = any(_matches(file_path, parent.config, pattern) for pattern in parent.config.getini("aefm_files"))
    if ours or parent.session.isinitpath(file_path):
        from pytest_aefm.yaml_files import ExperimentFile, is_experiment

        if ours or is_experiment(file_path):  # other plugins have YAML files, too
            return ExperimentFile.from_parent(parent, path=file_path)
    return None


def _matches(path: Path, config: pytest.Config, pattern: str) -> bool:
    """Return whether a file's name matches a pattern, or its path below rootdir one that has a slash."""
    relative = path.relative_to(config.rootpath) if path.is_relative_to(config.rootpath) else path
    return fnmatch(str(relative) if "/" in pattern else path.name, pattern)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize a marked test with the cases of its experiment; refuse another that asks for one."""
    if next(metafunc.definition.iter_markers("aefm"), None) is not None:
        from pytest_aefm.collection import parametrize

        parametrize(metafunc)
    elif "aefm_case" in metafunc.fixturenames:
        from pytest_aefm.collection import refuse_unmarked

        refuse_unmarked(metafunc)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the cases of each experiment into their running order, among the places that they occupy."""
    for item in items:
        if (what := unheard(item)) and settings_of(item.config).worker is None:  # a worker has no way to refuse
            raise pytest.UsageError(what)
    places = [index for index, item in enumerate(items) if case_of(item) is not None]
    if places:
        from pytest_aefm.plan import running_order

        for index, item in zip(places, running_order([items[index] for index in places]), strict=True):
            items[index] = item


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse what cases could not be reported to; warn of what would end them early, once for several workers."""
    cases = [item for item in session.items if case_of(item) is not None]
    if cases and settings_of(session.config).worker is None:
        refuse_unwritable(session.config, by_ini=True)
    neighbour = session.config.pluginmanager.has_plugin("timeout")
    if cases and neighbour and settings_of(session.config).worker in (None, "gw0"):
        from pytest_aefm.errors import ConfigurationError
        from pytest_aefm.neighbours import warn_of_timeouts
        from pytest_aefm.plan import estimates

        with suppress(ConfigurationError):  # which each case will tell, as it does where no neighbour is installed
            warn_of_timeouts([(item, estimates(item)[0]) for item in cases])


@contextmanager
def _usage_errors() -> Generator[None, None, None]:
    """Let what is wrong with the experiments end pytest with a message."""
    from pytest_aefm.errors import ConfigurationError

    try:
        yield
    except ConfigurationError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Print the plan instead of running, where it was asked for."""
    if not settings_of(session.config).plan or (
        session.testsfailed and not session.config.option.continue_on_collection_errors
    ):
        return None
    from pytest_aefm.plan import plan_lines

    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    write = reporter.write_line if reporter else print
    with _usage_errors():
        for line in plan_lines(session.items):
            write(line)
    return True


@pytest.hookimpl(tryfirst=True)  # no wrapper: one that raises takes other plugins' own beginnings away
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin an attempt of a case."""
    case = case_of(item)
    if case is not None:
        from pytest_aefm.plan import estimates

        state = recording.new_state(item, case)
        try:
            state.estimate_s, total = estimates(item)
            state.total, state.total_s = len(total), sum(total.values())
        finally:  # without estimates its trial is broken, and told all the same
            if "_aefm_wanted" in getattr(item, "fixturenames", ()):
                recording.tell_start(item)
        lifecycle.tell_experiment(item, case)
    elif what := unheard(item):
        pytest.fail(what, pytrace=False)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the experiments of this process, and hand a worker's leftovers to the controller."""
    lifecycle.end_experiments(session.config)
    recording.end_worker(session.config)
