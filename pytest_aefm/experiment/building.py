"""Settings -> Experiment: everything that concerns several keys at once is decided here."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_aefm.errors import ConfigurationError, did_you_mean
from pytest_aefm.experiment.matrix import KINDS, Factor, Matrix, spell_app, spell_factor, stem
from pytest_aefm.experiment.settings import Setting, Settings, settings_of_file, settings_of_marker
from pytest_aefm.experiment.source import Origin, Steps
from pytest_aefm.experiment.values import Cluster, Experiment, Load, Node
from pytest_aefm.model import AppSpec, Scalar
from pytest_aefm.slo import OWN_UNIT, SLO, parse, with_defaults

__all__ = ["from_options", "load"]

MAX_CASES = 100_000

_ALIASES = {"workload": "rate", "rounds": "round"}
_BUILT_IN = {"round": "rounds", "rounds": "rounds", "rate": "rate", "workload": "rate", "app": "app"} | {
    kind: kind for kind in KINDS
}
_REQUIRED = {
    "app": "the name of an application such as hotel",
    "script": "a Lua script such as hotel/search.lua",
    "rate": "requests per second, here or in test_cases.workload.range",
    "duration": "the measured part of a case, such as 30s",
}
_INSTEAD = {"duration": "schedule"}
"""What does without a required key."""


def load(path: Path | str, *, shown: str | None = None) -> Experiment:
    """Read an experiment from a YAML file, in AEFM's format or with its factors at the top level.

    ``shown`` is what messages call the file; by default its path relative to the working directory.

    Raises:
        ConfigurationError: with file, line and path of what is wrong.
    """
    path = Path(path)
    return _Builder(settings_of_file(path, shown), Origin(shown or str(path), path), stem(path.name)).experiment()


def from_options(
    options: Mapping[str, Any], *, where: str, name: str, base: Experiment | Path | None = None
) -> Experiment:
    """Make an experiment of a marker's keyword arguments, on top of ``base`` if there is one.

    ``where`` is what messages call the marker (``experiments/test_hotel.py::test_search``), ``name`` the
    experiment's name where neither says one. Arguments override the base's settings one by one.

    Raises:
        ConfigurationError: a name or value is wrong, here or in the base.
    """
    settings: Settings = {}
    home = Origin(where)
    if isinstance(base, Experiment):
        settings, name = dict(base.settings), base.name
    elif base is not None:
        settings, name = settings_of_file(base), stem(base.name)
        if not options:  # what is missing, is missing in the file
            home = Origin(str(base), base)
    return _Builder(settings | settings_of_marker(options, where), home, name).experiment()


class _Builder:
    """Builds one experiment. ``home`` is the place of what is missing; ``notes`` grow on the way."""

    def __init__(self, settings: Settings, where: Origin, name: str) -> None:
        self.settings, self.name = settings, name
        files = [setting.origin for setting in settings.values() if setting.origin.file]
        self.source = files[0].file if files else None
        self.home = where if where.file is None else next(iter(files), where)
        self.notes: list[str] = []

    def experiment(self) -> Experiment:
        for key, expected in _REQUIRED.items():
            if (key,) not in self.settings and (_INSTEAD.get(key, key),) not in self.settings:
                raise self.home.error((key,), "the key is missing", expected)
        slos, metrics = self.value("slos", ()), self.part("metrics")
        return Experiment(
            name=self.value("name", self.name),
            testbed=self.testbed(),
            app=self.app(),
            matrix=self.matrix(),
            load=self.load(),
            slos=() if slos == "none" else with_defaults(self.settled_slos(slos, metrics)),
            judged=slos != "none",
            min_trace_coverage=self.value("min_trace_coverage", 0.0),
            seed=self.value("seed"),
            metrics=metrics,
            queries=self.part("queries"),
            interference=self.interference(),
            cluster=self.cluster(),
            source=self.source,
            notes=tuple(self.notes),
            origin=self.home,
            settings=self.settings,
        )

    def value(self, key: str, default: Any = None) -> Any:
        setting = self.settings.get((key,))
        return default if setting is None else setting.value

    def part(self, *key: str) -> dict[str, Any]:
        """Return the values of a mapping that was merged by its keys."""
        size = len(key)
        return {name[size]: found.value for name, found in self.settings.items() if name[:size] == key}

    def settled_slos(self, slos: tuple[SLO, ...], own: Mapping[str, str | None]) -> tuple[SLO, ...]:
        """Return the SLOs, those on metrics of the user's own parsed again: now it is known which there are."""

        def settled(position: int, one: SLO) -> SLO:
            try:
                return parse(one.text, own=own) if one.unit == OWN_UNIT else one
            except ConfigurationError as error:
                setting = self.settings[("slos",)]
                raise setting.error(error.what, (position,), error.expected, error.hint) from None

        return tuple(settled(position, one) for position, one in enumerate(slos))

    def testbed(self) -> str:
        needs_cluster = self.value("nodes") or self.part("file_paths").get("yaml_repo")
        return str(self.value("testbed", "kubernetes" if needs_cluster else "local"))

    def app(self) -> AppSpec:
        name = self.value("app")
        if not re.search("[A-Za-z0-9]", spell_app(name)):
            raise self.settings[("app",)].error(f"{name!r} cannot be part of an id", (), _REQUIRED["app"])
        return AppSpec(
            name,
            replicas=self.part("replicas"),
            pod_spec=self.part("pod_spec"),
            namespace=self.value("namespace"),
            image=self.value("app_img"),
            manifests=self.part("file_paths").get("yaml_repo"),
            port=self.value("port"),
        )

    def interference(self) -> dict[str, dict[str, Scalar]]:
        sizes = {kind: self.part("interference", kind) for kind in KINDS}
        for kind in KINDS:
            if sizes[kind] and (kind,) not in self.settings:
                self.notes.append(f"interference.{kind} is not used: {kind} has no levels")
        return {kind: size for kind, size in sizes.items() if size}

    def cluster(self) -> Cluster:
        return Cluster(
            tuple(Node(node.name, tuple(node.roles), node.ip) for node in self.value("nodes", [])),
            self.value("prometheus_host"),
            self.value("jaeger_host"),
            self.value("jaeger_entrance"),
            self.part("per_generator").get("url"),
        )

    def load(self) -> Load:
        one, phases = self.part("per_generator"), self.value("schedule", ())
        if phases and ("duration",) in self.settings:
            raise self.settings[("schedule",)].error(
                "duration says it too", hint="a schedule lasts as long as its phases"
            )
        if phases and ("precision",) in self.settings:
            raise self.settings[("precision",)].error(
                "requests at several rates have no common percentile", (), "no schedule"
            )
        load = Load(
            script=self.value("script"),
            duration_s=sum(phase[2] for phase in phases) or self.value("duration"),
            warmup_s=self.value("warmup", 5.0),
            timeout_s=self.value("timeout", 2.0),
            threads=self.value("threads", one.get("threads")),
            connections=self.value("connections"),
            per_rate=(one["connections"], one.get("rate")) if "connections" in one else None,
            mutates=self.value("mutates", False),
            distribution=self.value("distribution", "fixed"),
            phases=phases,
            drain_s=self.value("drain"),
            tags=self.part("tags"),
            requests=self.value("requests", False),
            precision=self.value("precision"),
            abort=self.value("abort"),
            max_connections=self.value("max_connections"),
        )
        connections = load.connections_at(min(self.value("rate")))
        if ("threads",) in self.settings and self.value("threads") > connections:
            expected = f"at most the number of connections, which is {connections} at {min(self.value('rate')):g} req/s"
            raise self.settings[("threads",)].error(f"got {self.value('threads')}", (), expected)
        fastest = max(self.value("rate"))
        if load.max_connections is not None and load.max_connections < load.connections_at(fastest):
            expected = (
                f"at least the number of connections, which is {load.connections_at(fastest)} at {fastest:g} req/s"
            )
            raise self.settings[("max_connections",)].error(f"got {load.max_connections}", (), expected)
        return load

    def matrix(self) -> Matrix:
        written = self.written_factors()
        orders = self.orders(written)
        left = {name: written[name] for name in written if not orders or name in orders}
        order = self.value("order", "listed" if orders else "blocks")
        if order == "listed" and not orders:
            raise self.settings[("order",)].error(
                "there are no orders to follow", (), "a list orders of factors, the innermost first"
            )
        factors = tuple(Factor(name, setting.value) for name, setting in left.items())
        size = math.prod(len(factor.values) for factor in factors)
        if size > MAX_CASES:
            counts = " x ".join(f"{len(each.values)} of {each.name}" for each in factors if len(each.values) > 1)
            raise self.home.error((), f"the matrix: {size} cases ({counts})", f"at most {MAX_CASES}")
        matrix = Matrix(factors, order, orders, self.exclude(written, left))
        if not matrix.points(0, ""):
            raise self.settings[("exclude",)].error("it leaves no case", (), "at least one case")
        return matrix

    def written_factors(self) -> dict[str, Setting]:
        """Return the factors in the order of ids, under the names that a Case gives them."""
        own = {key[1]: setting for key, setting in self.settings.items() if key[0] == "factors"}
        for name, setting in own.items():
            if name in _BUILT_IN:
                raise setting.error(f"{name!r} is no name for a factor of your own", (), f"the key {_BUILT_IN[name]}")
            if not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name):
                raise setting.error("not a name", (), "letters, digits and '_', a letter first")
        found = {kind: self.settings[(kind,)] for kind in KINDS if (kind,) in self.settings} | own
        found["rate"] = self.settings[("rate",)]
        if ("rounds",) in self.settings:
            found["round"] = self.settings[("rounds",)]
        for name, setting in found.items():
            self.refuse_same_spelling(name, setting)
        return found

    def refuse_same_spelling(self, name: str, setting: Setting) -> None:
        seen: dict[str, Scalar] = {}
        for position, value in enumerate(setting.value):
            spelled = spell_factor(name, value)
            if spelled.lower() in seen:
                what = f"{seen[spelled.lower()]!r} and {value!r} are both {spelled!r} in the ids of cases"
                raise setting.error(what, (position,), "values that differ in letters, digits or one of _.+-")
            seen[spelled.lower()] = value

    def orders(self, written: Mapping[str, Setting]) -> tuple[str, ...]:
        """Return the names in ``orders``; a marker's factor that a file's orders lack comes outermost."""
        setting = self.settings.get(("orders",))
        if setting is None:
            return ()
        names: list[str] = []
        for position, name in enumerate(setting.value):
            known = _ALIASES.get(name, name)
            if known not in written:
                hint = did_you_mean(name, written)
                raise setting.error(f"unknown factor {name!r}", (position,), f"one of {', '.join(written)}", hint)
            if known in names:
                raise setting.error(f"{name!r} is listed twice", (position,))
            names.append(known)
        for name, factor in written.items():
            if name in names:
                continue
            if setting.origin.file and not factor.origin.file:
                names.append(name)
            elif name == "rate":
                raise setting.error("'workload' (or 'rate') is missing, without which there is no load")
            else:
                place = setting.origin.subject(setting.steps)
                self.notes.append(f"{name} is left out: orders does not name it ({place})")
        return tuple(names)

    def exclude(self, written: Mapping[str, Setting], left: Mapping[str, Setting]) -> tuple[Any, ...]:
        """Return the entries of ``exclude`` under the factors' own names."""
        setting = self.settings.get(("exclude",))
        if setting is None:
            return ()
        entries = []
        for position, entry in enumerate(setting.value):
            known = {_ALIASES.get(name, name): name for name in entry}
            for factor, name in known.items():
                if factor not in left:
                    what = f"{name!r} is left out by orders" if factor in written else f"unknown factor {name!r}"
                    hint = did_you_mean(name, left)
                    raise setting.error(what, (position, name), f"one of {', '.join(left)}", hint)
                if not (setting.origin.file and not left[factor].origin.file):
                    _refuse_unknown_values(setting, (position, name), entry[name], left[factor].value)
            if len(known) < len(entry):
                raise setting.error("one factor under two names", (position,))
            entries.append({factor: entry[name] for factor, name in known.items()})
        return tuple(entries)


def _refuse_unknown_values(setting: Setting, at: Steps, values: tuple[Scalar, ...], known: tuple[Scalar, ...]) -> None:
    spelled = {(isinstance(value, bool), value) for value in known}
    for position, value in enumerate(values):
        if (isinstance(value, bool), value) not in spelled:
            shown = ", ".join(map(repr, known[:8])) + (", ..." if len(known) > 8 else "")
            steps = (*at, position) if len(values) > 1 else at
            raise setting.error(f"the factor has no value {value!r}", steps, f"one of {shown}")
