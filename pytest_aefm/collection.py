"""From a marked test to its cases: parametrization, running order, plan. Imported only where a test is marked."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TypeVar

import pytest

from pytest_aefm import experiment
from pytest_aefm.cases import unmarked, with_cases
from pytest_aefm.errors import ConfigurationError, did_you_mean
from pytest_aefm.load.scripts import changes_data, find_script
from pytest_aefm.model import AppSpec, Case, ClusterSpec, Trial
from pytest_aefm.progress import duration_text
from pytest_aefm.settings import settings_of

__all__ = [
    "ExperimentFile",
    "estimates",
    "is_experiment",
    "parametrize",
    "plan_lines",
    "refuse_unmarked",
    "running_order",
]

_NOTES = pytest.StashKey[dict[str, tuple[str, ...]]]()
_ESTIMATES = pytest.StashKey[dict[str, float]]()

# What converging costs, in seconds, where it is needed: a guess that only the plan and the progress use.
_DEPLOY_S, _DISTURB_S, _CASE_S = 4.0, 1.0, 1.0


class ExperimentFile(pytest.Module):
    """A YAML file as a module with one test, ``test_<stem>(aefm_run)``: what holds for tests holds for it."""

    def _getobj(self) -> ModuleType:
        stem = re.sub(r"\W", "_", self.path.name.partition(".")[0])

        def test(aefm_run: Callable[..., Trial]) -> None:
            aefm_run()

        test.__name__ = test.__qualname__ = f"test_{stem}"
        test.__doc__ = f"The experiment of {self.path.name}."
        module = ModuleType(stem)
        module.__file__ = str(self.path)
        setattr(module, test.__name__, pytest.mark.aefm(str(self.path))(test))
        return module

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Yield the cases; where they lie is the file, not here."""
        for item in super().collect():
            if isinstance(item, pytest.Function):
                item.reportinfo = partial(_place, self.path, item.name)  # type: ignore[method-assign] # of this item
            yield item

    def funcnamefilter(self, name: str) -> bool:
        """Accept the test whatever ``python_functions`` says."""
        return name.startswith("test_")


def _place(path: Path, name: str) -> tuple[Path, int, str]:
    return path, 0, name


_TELLING = re.compile(r"^(?:\{.*?)?[\"']?(?:app|script|rate|slos|test_cases)[\"']?\s*:", re.MULTILINE)


def is_experiment(path: Path) -> bool:
    """Return whether a YAML file, well-formed or not, has a key at its top that every experiment has one of."""
    return _TELLING.search(path.read_text(encoding="utf-8", errors="replace")) is not None


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
    metafunc.config.stash.setdefault(_NOTES, {})[where] = chosen.notes
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
        metafunc.config.stash[_NOTES][where] = (*chosen.notes, *lacking)
    else:
        found, app = _script(metafunc, chosen), _app(metafunc, chosen, testbed)
    if testbed == "local":
        _refuse_services(chosen, app)
    mutates = chosen.load.mutates
    if found is not None and ("mutates",) not in chosen.settings:
        mutates = changes_data(found)
    if mutates and len(cases) > 1:
        note = f"{chosen.script} changes the application's data: each case meets what those before it have left"
        metafunc.config.stash[_NOTES][where] = (*metafunc.config.stash[_NOTES][where], note)
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


def running_order(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return our items in running order: test functions as first met, each one's cases by their position.

    A test that is parametrized further, or repeated, has variants: each of them keeps the places that pytest gave it.
    """
    groups: dict[str, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(_function(item), []).append(item)
    return [item for group in groups.values() for item in _by_position(group)]


def _by_position(items: Sequence[pytest.Item]) -> Iterator[pytest.Item]:
    variants: dict[tuple[Any, ...], list[pytest.Item]] = {}
    for item in sorted(items, key=lambda item: _case(item).position, reverse=True):
        variants.setdefault(_variant(item), []).append(item)
    return (variants[_variant(item)].pop() for item in items)


def _variant(item: pytest.Item) -> tuple[Any, ...]:
    """Return which values a test has of parameters that are not ours."""
    indices = item.callspec.indices  # type: ignore[attr-defined] # only parametrized items come here
    return tuple(sorted((name, index) for name, index in indices.items() if name != "aefm_case"))


def _function(item: pytest.Item) -> str:
    return item.nodeid.partition("[")[0]


def _case(item: pytest.Item) -> Case:
    case: Case = item.callspec.params["aefm_case"]  # type: ignore[attr-defined] # only parametrized items come here
    return case


def estimates(item: pytest.Item) -> tuple[float, Mapping[str, float]]:
    """Return how many seconds a case will take, and that of every case of the session by node id.

    Raises:
        ConfigurationError: the hook of a case's cost fails, or gives no number.
    """
    session = item.session
    if _ESTIMATES not in session.stash:
        found: dict[str, float] = {}
        before: Case | None = None
        for each, case in with_cases(session.items):
            found[each.nodeid] = _cost_s(each.config, before, case)
            before = case
        session.stash[_ESTIMATES] = found
    known = session.stash[_ESTIMATES]
    return known.get(item.nodeid, 0.0), known


def _cost_s(config: pytest.Config, before: Case | None, case: Case) -> float:
    try:
        cost = config.hook.pytest_aefm_case_cost(config=config, case=case, previous=before)
        seconds = _estimate_s(before, case) if cost is None else float(cost)
        if not 0 <= seconds < math.inf:
            raise ValueError(f"got {cost!r}")
    except Exception as error:
        what = f"{type(error).__name__} for {case.id}: {error}"
        raise ConfigurationError("pytest_aefm_case_cost", what, "a number of seconds, or None") from None
    return seconds


def _estimate_s(before: Case | None, case: Case) -> float:
    seconds = case.load.warmup_s + case.load.duration_s + _CASE_S + _filling_s(before, case)
    if before is None or before.app != case.app or before.testbed != case.testbed:
        return seconds + _DEPLOY_S + (_DISTURB_S if case.interference else 0)
    return seconds + (_DISTURB_S if before.interference != case.interference else 0)


def _filling_s(before: Case | None, case: Case) -> float:
    """Return how long memory doses take to fill that the case before did not have."""
    kept = before.interference if before is not None and before.testbed == case.testbed else ()
    fresh = [spec for spec in case.interference if spec not in kept and spec.kind.startswith("mem_")]
    if not fresh:
        return 0.0
    if case.testbed == "local":
        from pytest_aefm.testbeds import local_doses

        return local_doses.filling_s(fresh)
    from pytest_aefm.interference import filling_s

    return filling_s(fresh, sum(spec.count for spec in fresh))


def plan_lines(items: Sequence[pytest.Item]) -> Iterator[str]:
    """Yield the plan: every case in running order, what changes before it, the time it needs; then the sum."""
    ours = list(with_cases(items))
    if not ours:
        yield "no cases to run"
        return
    rows, before, total = [], None, 0.0
    for number, (item, case) in enumerate(ours, 1):
        seconds, _ = estimates(item)
        total += seconds
        filling = _filling_s(before, case)
        changes = _changes(before, case) + (f", memory filled in {filling:.1f} s" if filling >= 0.1 else "")
        rows.append((str(number), item.name, changes, duration_text(seconds)))
        before = case
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join([row[0].rjust(widths[0]), *cells[1:3], row[3].rjust(widths[3])])
    planned = {_function(item) for item, _ in ours}
    for where, notes in ours[0][0].config.stash.get(_NOTES, {}).items():
        yield from (f"note: {where}: {note}" for note in notes if where in planned)
    yield f"{len(ours)} case{'s' if len(ours) > 1 else ''}, about {duration_text(total)}; nothing was run"


def _changes(before: Case | None, case: Case) -> str:
    """Say what changes from one case to the next: factors, and the script between tests of one experiment."""
    if before is None:
        return "deploy " + case.app.name
    if (before.experiment, before.origin) != (case.experiment, case.origin):
        return f"experiment {case.experiment}" + ("" if before.app == case.app else f", deploy {case.app.name}")
    changed = [f"script {case.load.script}"] if before.load.script != case.load.script else []
    changed += [
        f"{name} {before.factors.get(name, '-')} -> {value}"
        for name, value in case.factors.items()
        if before.factors.get(name) != value
    ]
    return ", ".join(changed) or "nothing"
