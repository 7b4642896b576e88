"""All that disturbs an application on a cluster: pods that stress its nodes, Chaos Mesh, faults of its services."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pytest_aefm.errors import InterferenceError
from pytest_aefm.interference import made_by_programs
from pytest_aefm.model import Dose, InterferenceSpec, Window
from pytest_aefm.testbeds.faults import FaultReading, faults_of, prove_faults
from pytest_aefm.testbeds.kubernetes.chaos import ChaosReading, ChaosStressors, chaos_of
from pytest_aefm.testbeds.kubernetes.faulting import PodFaults
from pytest_aefm.testbeds.kubernetes.place import Place, attempt
from pytest_aefm.testbeds.kubernetes.run_pods import read_pods
from pytest_aefm.testbeds.kubernetes.stressing import PodReading, PodStressors, StressOptions

__all__ = ["DisturbanceReading", "Disturbances"]


@dataclass(frozen=True, slots=True)
class DisturbanceReading:
    """What all of it said at one moment; what was never made says nothing."""

    stress: PodReading = field(default_factory=PodReading)
    chaos: ChaosReading = field(default_factory=ChaosReading)
    faults: tuple[FaultReading, ...] = ()


class Disturbances:
    """What disturbs the application in ``namespace``: ``active`` is confirmed to run."""

    def __init__(self, place: Place, namespace: str) -> None:
        self._place, self._namespace = place, namespace
        self._stressors: PodStressors | None = None
        self._chaos: ChaosStressors | None = None
        self._faults: PodFaults | None = None
        self.active: tuple[InterferenceSpec, ...] = ()

    @property
    def made(self) -> bool:
        """Whether there ever was anything that disturbs."""
        return any(one is not None for one in (self._stressors, self._chaos, self._faults))

    @property
    def altered(self) -> list[str]:
        """What admission made of the pods that disturb, beside what was asked for."""
        return self._stressors.altered if self._stressors is not None else []

    def converge(self, specs: tuple[InterferenceSpec, ...], nodes: Sequence[str]) -> None:
        """Have exactly these, pods of them on ``nodes``; after a failure nothing is known to run.

        Raises:
            InterferenceError: it did not start in time, does not fit, or there is no node or image for it.
            DisruptionError: the cluster took a pod of it away meanwhile.
        """
        before, self.active = self.active, ()
        programs, chaos, faults = made_by_programs(specs), chaos_of(specs), faults_of(specs)
        if programs or self._stressors is not None:
            stressors = self._stressing(nodes)
            if programs != made_by_programs(before):
                stressors.check(programs, allow_shared=self._place.options.allow_shared)
            stressors.converge(programs)
        place = self._place
        if chaos and self._chaos is None:
            self._chaos = ChaosStressors(place.connection, place.dead_man, namespace=self._namespace, run=place.run)
        if self._chaos is not None:
            self._chaos.converge(chaos)
        if faults and self._faults is None:
            pods = partial(read_pods, place.connection, self._namespace, place.run)
            self._faults = PodFaults(place.connection, namespace=self._namespace, pods=pods, lost=place.lost)
        if self._faults is not None:
            self._faults.converge(faults)
        self.active = specs

    def renew(self) -> None:
        """Disturb an application that was deployed anew: its pods know of no faults.

        Raises:
            InterferenceError: a service does not take them.
        """
        if self._faults is not None:
            self._faults.converge(faults_of(self.active))

    def read(self, listed: Iterable[dict[str, Any]]) -> DisturbanceReading:
        """Read all of it now; ``listed`` are all pods of the run, read just now."""
        return DisturbanceReading(
            self._stressors.read(listed) if self._stressors is not None else PodReading(),
            self._chaos.read() if self._chaos is not None else ChaosReading(),
            self._faults.read() if self._faults is not None else (),
        )

    def prove(
        self, before: DisturbanceReading, after: DisturbanceReading, window: Window
    ) -> tuple[tuple[Dose, ...], Mapping[str, Any]]:
        """Return what was delivered over a window, from readings at its edges; and the effect."""
        doses: tuple[Dose, ...] = ()
        effect: Mapping[str, Any] = {}
        if self._stressors is not None:
            doses, effect = self._stressors.prove(before.stress, after.stress, window)
        if self._chaos is not None:
            doses = (*doses, *self._chaos.prove(before.chaos, after.chaos))
        return (*doses, *prove_faults(before.faults, after.faults)), effect

    def stop(self) -> list[str]:
        """Remove all of it; return what could not be removed. Never raises."""
        made = [one for one in (self._stressors, self._chaos, self._faults) if one is not None]
        self._stressors = self._chaos = self._faults = None
        self.active = ()
        return [problem for one in made for problem in attempt(one.stop)]

    def _stressing(self, nodes: Sequence[str]) -> PodStressors:
        """Return what disturbs nodes, made when it is first needed.

        Raises:
            InterferenceError: no node may be disturbed, or no image is known.
        """
        if self._stressors is None:
            place, image = self._place, self._place.options.stress_image
            if not nodes:
                hint = "give role testbed to nodes of the experiment, or label them aefm.dev/testbed=true"
                raise InterferenceError("interference", "no node may be disturbed", None, hint)
            if image is None:
                raise InterferenceError("interference", "no image", None, "name it with --aefm-stress-image")
            self._stressors = PodStressors(
                place.connection,
                place.dead_man,
                namespace=self._namespace,
                run=place.run,
                nodes=nodes,
                options=StressOptions(image),
            )
        return self._stressors
