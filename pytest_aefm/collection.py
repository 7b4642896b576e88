"""From a marked test to its cases: parametrization. Imported only where a test is marked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest

from pytest_aefm import experiment
from pytest_aefm.cases import unmarked
from pytest_aefm.errors import ConfigurationError, did_you_mean
from pytest_aefm.load.scripts import changes_data, find_script
from pytest_aefm.model import AppSpec, Case, ClusterSpec
from pytest_aefm.plan import NOTES
from pytest_aefm.settings import settings_of

__all__ = ["parametrize", "refuse_unmarked"]


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Parametrize a marked test with its experiment's cases, in running order, each with a readable id.

    A mistake in the experiment fails the collection with a message that is the same on every worker.
    """
    where = metafunc.definition.nodeid
    cases, mistake = [], ""
    try:
        cases = _cases(metafunc, where)
    except ConfigurationError as error:
        mistake = str(error)
    if mistake:  # outside of the handler: pytest would show the chain
        _refuse(metafunc, mistake)
    if "aefm_case" not in metafunc.fixturenames:
        # getfixturevalue("aefm_run"), or an override that lost it before pytest 9.0.
        if not any(name.startswith("aefm_") for name in metafunc.fixturenames):
            message = (
                f"{where}: the test has the marker 'aefm' but no fixture of it; expected aefm_run among its arguments"
            )
            _refuse(metafunc, message)
        metafunc.fixturenames.append("aefm_case")
    metafunc.parametrize("aefm_case", cases, ids=[case.id for case in cases], indirect=True, scope="function")


def refuse_unmarked(metafunc: pytest.Metafunc) -> NoReturn:
    """Refuse a test that asks for a case and has no marker."""
    asked = (name for name in inspect.signature(metafunc.function).parameters if name.startswith("aefm_"))
    used = next(asked, "aefm_case")
    _refuse(metafunc, str(unmarked(metafunc.definition.nodeid, used)))


def _refuse(metafunc: pytest.Metafunc, message: str) -> NoReturn:
    """Fail the collection without a traceback.

    xdist tells once what all workers say as plain text; elsewhere the short summary is to have the message, too.
    """
    if settings_of(metafunc.config).worker is not None:
        raise pytest.Collector.CollectError(message)
    pytest.fail(message, pytrace=False)


def _cases(metafunc: pytest.Metafunc, where: str) -> list[Case]:
    settings = settings_of(metafunc.config)
    markers = [marker for level in _levels(metafunc.definition) for marker in _agreeing(level, where)]
    paths = [_path(metafunc, marker.args, where) for marker in markers if marker.args]
    options = experiment.merge_markers([marker.kwargs for marker in markers])
    name = metafunc.definition.originalname.removeprefix("test_")
    chosen = experiment.from_options(options, where=where, name=name, base=paths[0] if paths else None)
    metafunc.config.stash.setdefault(NOTES, {})[where] = chosen.notes
    if settings.seed_said:
        chosen = replace(chosen, seed=None)
    cases = chosen.cases(confidence=settings.confidence, seed=settings.seed)
    testbed = settings.testbed or chosen.testbed
    if testbed == "local":
        _refuse_doses(chosen, cases)
    lacking: list[str] = []
    if settings.plan and testbed == "kubernetes":  # AEFM's files can be planned without what they refer to
        found = _tolerant(lacking, lambda: _script(metafunc, chosen), None)
        app = _tolerant(lacking, lambda: _app(metafunc, chosen, testbed), chosen.app)
        metafunc.config.stash[NOTES][where] = (*chosen.notes, *lacking)
    else:
        found, app = _script(metafunc, chosen), _app(metafunc, chosen, testbed)
    if testbed == "local":
        _refuse_services(chosen, app)
    mutates = chosen.load.mutates
    if found is not None and ("mutates",) not in chosen.settings:
        mutates = changes_data(found)
    if mutates and len(cases) > 1:
        note = f"{chosen.script} changes the application's data: each case meets what those before it have left"
        metafunc.config.stash[NOTES][where] = (*metafunc.config.stash[NOTES][where], note)
    settled = partial(
        replace, testbed=testbed, app=app, script_path=found, repeats=chosen.repeats, origin=str(chosen.source or where)
    )
    return [settled(case, load=replace(case.load, mutates=mutates)) for case in cases]


def _levels(test: pytest.Item) -> Iterator[list[pytest.Mark]]:
    """Yield the markers of each level, the closest first: the function, its class, that one's bases, the module."""
    for node in reversed(test.listchain()):
        marks = [mark for mark in node.own_markers if mark.name == "aefm"]
        for kind in node.obj.__mro__ if isinstance(node, pytest.Class) else ():
            own = [mark for mark in marks if any(mark is getattr(one, "mark", one) for one in _written(kind))]
            marks = [mark for mark in marks if mark not in own]
            yield own
        yield marks


def _written(kind: type) -> Sequence[Any]:
    written = kind.__dict__.get("pytestmark", [])
    return written if isinstance(written, list | tuple) else [written]


def _agreeing(level: list[pytest.Mark], where: str) -> list[pytest.Mark]:
    """Refuse markers of one level that say different things: none of them is the closest."""
    found = experiment.contradiction([{"path": mark.args, **mark.kwargs} for mark in level if mark.args or mark.kwargs])
    if found is not None:
        key, one, other = found
        what = f"{key}: two markers at the same level say {one} and {other}"
        raise ConfigurationError(where, what, "one value", "keep one of them")
    return level


def _refuse_services(chosen: experiment.Experiment, app: AppSpec) -> None:
    """Refuse an SLO on a service that the application's topology has not."""
    from pytest_aefm.apps import find_app
    from pytest_aefm.mesh.topology import load_topology

    asked = [(number, one) for number, one in enumerate(chosen.slos) if one.service is not None]
    if not asked:
        return
    try:
        path = Path(app.topology) if app.topology else find_app(app.name).topology_path
    except ConfigurationError:  # of a testbed that replaces ours
        return
    known = load_topology(path).services
    for number, one in asked:
        service = str(one.service)
        if service not in known:
            what, expected = f"{one.text}: {app.name} has no service {service!r}", f"one of {', '.join(known)}"
            raise chosen.settings[("slos",)].error(what, (number,), expected, did_you_mean(service, known))


def _refuse_doses(chosen: experiment.Experiment, cases: Iterable[Case]) -> None:
    """Refuse a dose that this machine cannot make, or cannot hold."""
    disturbances = dict.fromkeys(case.interference for case in cases if case.interference)
    if disturbances:
        from pytest_aefm.testbeds.local_doses import refusals

        for specs in disturbances:
            for kind, error in refusals(specs):
                raise chosen.error(kind, error.what, error.expected, error.hint)


def _script(metafunc: pytest.Metafunc, chosen: experiment.Experiment) -> Path:
    """Find the experiment's script: beside it, beside the test, in rootdir, in its ``lua/``, among the bundled."""
    try:
        folders = [*_folders(metafunc, chosen), metafunc.config.rootpath / "lua"]
        return find_script(chosen.script, folders, "script")
    except ConfigurationError as error:
        raise chosen.error("script", error.what, error.expected, error.hint) from None


_Found = TypeVar("_Found")


def _tolerant(lacking: list[str], find: Callable[[], _Found], otherwise: _Found) -> _Found:
    """Return what is found; where it is not, note why."""
    try:
        return find()
    except ConfigurationError as error:
        lacking.append(str(error))
        return otherwise


def _app(metafunc: pytest.Metafunc, chosen: experiment.Experiment, testbed: str) -> AppSpec:
    """Find the files of an application, beside the experiment, the test, or in rootdir, and check its topology."""
    app = chosen.app
    if testbed == "kubernetes":
        said = chosen.cluster
        nodes = {node.name: node.roles for node in said.nodes}
        app = replace(
            app,
            cluster=ClusterSpec(
                nodes, _url(said.entry_url), _url(said.prometheus_url), _url(said.jaeger_url), said.jaeger_entrance
            ),
        )
        if app.manifests is not None:
            found = _find(metafunc, chosen, "file_paths", app.manifests, "yaml_repo", Path.exists)
            return replace(app, manifests=str(found.resolve()))
    if not app.name.endswith((".yaml", ".yml")):
        return app
    from pytest_aefm.mesh.topology import load_topology

    found = _find(metafunc, chosen, "app", app.name, "topology file", Path.is_file)
    load_topology(found)
    return replace(app, name=found.stem, topology=str(found.resolve()))


def _find(
    metafunc: pytest.Metafunc,
    chosen: experiment.Experiment,
    key: str,
    written: str,
    what: str,
    is_one: Callable[[Path], bool],
) -> Path:
    candidates = [folder / written for folder in _folders(metafunc, chosen)]
    found = next((candidate for candidate in candidates if is_one(candidate)), None)
    if found is None:
        looked = ", ".join(dict.fromkeys(str(candidate) for candidate in candidates))
        or_folder = " or folder" if is_one is Path.exists else ""
        raise chosen.error(key, f"{what} {written!r} not found", f"a file{or_folder} at one of {looked}")
    return found


def _url(text: str | None) -> str | None:
    """Return a URL that was written with or without its scheme."""
    return text if text is None or "://" in text else f"http://{text}"


def _folders(metafunc: pytest.Metafunc, chosen: experiment.Experiment) -> list[Path]:
    """Return where an experiment's files are looked up: beside it, beside the test, in rootdir."""
    beside = [chosen.source.parent] if chosen.source else []
    return [*beside, metafunc.definition.path.parent, metafunc.config.rootpath]


def _path(metafunc: pytest.Metafunc, arguments: tuple[Any, ...], where: str) -> Path:
    """Find the marker's YAML file: relative to the test's file, then to rootdir."""
    if len(arguments) != 1 or not isinstance(arguments[0], str | Path):
        raise ConfigurationError(
            where, f"marker 'aefm' with {arguments!r}", "one path of a YAML file, and keyword arguments"
        )
    folders = (metafunc.definition.path.parent, metafunc.config.rootpath)
    candidates = [folder / arguments[0] for folder in folders]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    looked = " or ".join(dict.fromkeys(str(candidate) for candidate in candidates))
    raise ConfigurationError(where, f"experiment file {str(arguments[0])!r} not found", f"a file at {looked}")
