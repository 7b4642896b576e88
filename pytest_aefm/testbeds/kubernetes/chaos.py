"""Interference that Chaos Mesh makes: its objects applied, confirmed to be injected, read, proven, removed."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_aefm.errors import AefmError, ConfigurationError, InterferenceError
from pytest_aefm.model import Dose, InterferenceSpec
from pytest_aefm.testbeds.kubernetes.applying import MANAGER, Applied, apply_all
from pytest_aefm.testbeds.kubernetes.chaos_objects import keeper_job, make_objects, read_template
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection
from pytest_aefm.testbeds.kubernetes.deadman import JOBS, DeadMan
from pytest_aefm.testbeds.kubernetes.removing import Leftover, remove

__all__ = ["ChaosReading", "ChaosState", "ChaosStressors", "chaos_of", "refuse_chaos", "state_of"]

Json = dict[str, Any]

_POLL_S = 0.2
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class ChaosState:
    """An object of Chaos Mesh at one moment: ``lacking`` says why it is not at work, empty while it is.

    ``records`` has of each container how often it was disturbed, and how often that was undone.
    """

    uid: str
    lacking: str
    records: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChaosReading:
    """All objects at one moment, by what messages call them."""

    objects: Mapping[str, ChaosState] = field(default_factory=dict)


def chaos_of(specs: Iterable[InterferenceSpec]) -> tuple[InterferenceSpec, ...]:
    """Return those disturbances that Chaos Mesh makes."""
    return tuple(spec for spec in specs if spec.kind == "chaos")


def refuse_chaos(connection: Connection, specs: Sequence[InterferenceSpec], namespace: str) -> None:
    """Refuse what Chaos Mesh is not to do, or what a cluster without it cannot.

    Raises:
        ConfigurationError: the template is wrong, or the cluster does not serve its kinds.
    """
    for spec in specs:
        for item in read_template(spec, namespace):
            try:
                connection.resource(item.api_version, item.kind)
            except ApiError as error:
                if error.status != 404:
                    raise
                what = f"{connection.name} does not serve {item.kind} of {item.api_version}"
                hint = "install Chaos Mesh there, or leave chaos out"
                raise ConfigurationError("interference 'chaos'", what, None, hint) from None


def state_of(body: Json) -> ChaosState:
    """Read an object: what its controller says of it."""
    status = body.get("status") or {}
    conditions = {one.get("type"): one for one in status.get("conditions") or ()}
    records = (status.get("experiment") or {}).get("containerRecords") or ()
    counts = {
        str(one.get("id")): (int(one.get("injectedCount", 0)), int(one.get("recoveredCount", 0))) for one in records
    }
    return ChaosState(str(body["metadata"]["uid"]), "".join(itertools.islice(_lacking(body, conditions), 1)), counts)


def _lacking(body: Json, conditions: Mapping[Any, Json]) -> Iterator[str]:
    if "deletionTimestamp" in body["metadata"]:
        yield "it is being deleted"
    if not conditions:
        yield "no controller has seen it"
    for kind, wanted, what in (
        ("Paused", "False", "it is paused"),
        ("Selected", "True", "it selects no pod"),
        ("AllInjected", "True", "it is not in all of its pods"),
    ):
        one = conditions.get(kind, {"status": wanted if kind == "Paused" else "missing"})
        if one.get("status") != wanted:
            yield what + (f": {one['reason']}" if one.get("reason") else "") + "".join(_said(body))


def _said(body: Json) -> Iterator[str]:
    """Yield the last that its controller said of a failure."""
    records = ((body.get("status") or {}).get("experiment") or {}).get("containerRecords") or ()
    failed = [event for one in records for event in one.get("events") or () if event.get("type") == "Failed"]
    yield from (f": {event['message']}" for event in failed[-1:] if event.get("message"))


class ChaosStressors:
    """What Chaos Mesh does in a run; :meth:`converge` makes it what a case asks for."""

    def __init__(
        self, connection: Connection, dead_man: DeadMan, *, namespace: str, run: str, deadline_s: float = 60.0
    ) -> None:
        self._connection, self._dead_man = connection, dead_man
        self._namespace, self._run, self._deadline_s = namespace, run, deadline_s
        self._specs: tuple[InterferenceSpec, ...] = ()
        self._keeper: Leftover | None = None
        self._applied: tuple[Applied, ...] = ()

    def converge(self, specs: Sequence[InterferenceSpec]) -> None:
        """Have exactly this, confirmed by Chaos Mesh; what is there already stays. After a failure there is none.

        Raises:
            InterferenceError: it is not injected in time, or cannot be removed.
        """
        if tuple(specs) == self._specs and all(not one.lacking for one in self.read().objects.values()):
            return
        try:
            if problems := self.stop():
                raise InterferenceError("interference 'chaos'", "; ".join(problems))
            if specs:
                self._begin(specs)
        except AefmError as error:
            self.stop()
            if isinstance(error, InterferenceError):
                raise
            raise InterferenceError("interference 'chaos'", str(error)) from error
        self._specs = tuple(specs)

    def read(self) -> ChaosReading:
        """Read all objects now: one request for each."""
        found = {}
        for one in self._applied:
            try:
                found[one.manifest.label] = state_of(self._connection.get(one.path))
            except ApiError as error:
                if error.status != 404:
                    raise
                found[one.manifest.label] = ChaosState("", "it is gone")
        return ChaosReading(found)

    def prove(self, before: ChaosReading, after: ChaosReading) -> tuple[Dose, ...]:
        """Return a dose for what was asked, from readings at the edges of a window."""
        wrong = [*_faults(before, after)]
        pods = sum(len(one.records) for one in after.objects.values())
        message = "; ".join(wrong) or f"injected into {pods} containers over the whole window"
        details = {"objects": list(after.objects), "containers": pods}
        return tuple(
            Dose(spec.kind, spec.count, 0.0 if wrong else 1.0, not wrong, f"chaos: {message}", details)
            for spec in self._specs
        )

    def stop(self) -> list[str]:
        """Remove all of it, and wait until Chaos Mesh has undone it; return what could not be removed. Never raises."""
        keeper, applied = self._keeper, self._applied
        self._keeper, self._applied, self._specs = None, (), ()
        if keeper is None:
            return []
        self._dead_man.drop(keeper.path)
        # Not by their owner alone: the cluster's garbage collector learns of a new kind late.
        objects = [Leftover(self._run, one.resource, self._namespace, one.manifest.name, one.uid) for one in applied]
        try:
            return remove(self._connection, [*objects, keeper], deadline_s=self._deadline_s)
        except AefmError as error:  # nobody keeps it alive any more
            return [f"interference 'chaos': {error}"]

    def _begin(self, specs: Sequence[InterferenceSpec]) -> None:
        name = f"aefm-chaos-{self._run}-{next(_numbers)}".lower()
        path = JOBS.path(self._namespace, name)
        made = self._connection.apply(path, keeper_job(name, self._namespace, self._run), MANAGER)
        self._keeper = Leftover(self._run, JOBS, self._namespace, name, made["metadata"]["uid"])
        self._dead_man.keep(path, self._keeper.uid)
        objects = [item for spec in specs for item in make_objects(spec, self._namespace, self._run, made)]
        self._applied = apply_all(self._connection, objects)
        deadline = time.monotonic() + self._deadline_s
        while lacks := [f"{name}: {one.lacking}" for name, one in self.read().objects.items() if one.lacking]:
            if time.monotonic() >= deadline:
                what = f"not at work after {self._deadline_s:g} s: {', '.join(lacks)}"
                hint = f"see kubectl -n {self._namespace} describe stresschaos,networkchaos"
                raise InterferenceError("interference 'chaos'", what, None, hint)
            time.sleep(_POLL_S)


def _faults(before: ChaosReading, after: ChaosReading) -> Iterator[str]:
    """Yield what was not as it should be at an edge, or changed in between."""
    for name, last in after.objects.items():
        first = before.objects.get(name)
        if first is None or first.lacking:
            yield f"{name} when the window began: {first.lacking if first else 'not there'}"
        elif last.lacking:
            yield f"{name} when the window ended: {last.lacking}"
        elif (first.uid, first.records) != (last.uid, last.records):
            yield f"{name} was undone, or injected anew, in the window"
