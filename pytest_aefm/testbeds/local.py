"""The local testbed: applications as processes of this machine, beside what drives, disturbs and watches them.

The generator has a physical core of its own where there are two; Prometheus, receiver and pytest sit beside it
at nice 10; services and stressors have the rest. One supervisor owns every process, so that none outlives pytest.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_aefm.apps import App, find_app
from pytest_aefm.collectors import Collector, Observations
from pytest_aefm.collectors.figures import Limits
from pytest_aefm.errors import AefmError, ConfigurationError, DeploymentError, InterferenceError
from pytest_aefm.interference import (
    Host,
    Tool,
    asked_for,
    find_iperf3,
    find_stress_ng,
    made_by_programs,
    plan,
    program_of,
)
from pytest_aefm.load import Driver, LoadRun
from pytest_aefm.mesh.calibrate import Calibration, calibrate
from pytest_aefm.mesh.program import find_mesh
from pytest_aefm.mesh.topology import Topology, load_topology
from pytest_aefm.model import AppSpec, Case, InterferenceSpec, LoadSpec, Window, as_json
from pytest_aefm.supervisor import Supervisor, SupervisorError, descendants
from pytest_aefm.testbeds import Deployment, state_key
from pytest_aefm.testbeds.faults import read_faults, refuse_faults, set_faults
from pytest_aefm.testbeds.local_app import DeployPlan, LocalApp, PortTakenError, deploy, free_ports
from pytest_aefm.testbeds.local_counters import place, read_process
from pytest_aefm.testbeds.local_doses import filling_s, refusals
from pytest_aefm.testbeds.local_faults import replicas_of
from pytest_aefm.testbeds.local_marks import Mark, observations, take_mark
from pytest_aefm.testbeds.local_stressors import BACKSTOP_S, Stressors
from pytest_aefm.testbeds.local_watch import Watch, refuse_unwatched
from pytest_aefm.testbeds.machine import CorePlan, cache_bytes, machine_facts, plan_cores
from pytest_aefm.testbeds.settling import Settling

__all__ = ["LocalTestbed"]

_NICE = 10
_FINDERS = {"stress-ng": find_stress_ng, "iperf3": find_iperf3}
_ATTEMPTS = 3  # to find ports that nobody takes meanwhile


class LocalTestbed:
    """A :class:`~pytest_aefm.testbeds.Testbed` on this machine; nothing is started before the first application.

    ``run_dir`` takes logs and data of this run, ``cache_dir`` what holds for the machine. A service may take
    ``ready_timeout_s`` seconds to get ready; Prometheus scrapes every ``scrape_interval_s`` seconds.
    """

    kind = "local"

    def __init__(
        self,
        run_dir: Path,
        cache_dir: Path,
        *,
        ready_timeout_s: float = 60.0,
        scrape_interval_s: float = 1.0,
    ) -> None:
        self._run_dir, self._cache_dir = run_dir, cache_dir
        self._ready_timeout_s, self._scrape_interval_s = ready_timeout_s, scrape_interval_s
        self._facts, self._cores = machine_facts(), plan_cores()
        self._affinity, self._nice = os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, 0)
        self._supervisor: Supervisor | None = None
        self._watch: Watch | None = None
        self._stressors: Stressors | None = None
        self._tools: dict[str, Tool] = {}
        self._cache_bytes, self._network_port = cache_bytes(), 0
        self._calibration: Calibration | None = None
        self._app: LocalApp | None = None
        self._spec: AppSpec | None = None
        self._interference: tuple[InterferenceSpec, ...] = ()
        self._generation, self._deployed_wall_s = 0, 0.0
        self._ports: dict[str, dict[str, int]] = {}
        self._settling = Settling()
        self._failures: dict[str, AefmError] = {}
        self._closed = False

    @property
    def cores(self) -> CorePlan:
        """Who runs where."""
        return self._cores

    @property
    def supervisor(self) -> Supervisor:
        """The owner of every process.

        Raises:
            DeploymentError: nothing was deployed yet, or the testbed is closed.
        """
        if self._supervisor is None:
            raise DeploymentError("local testbed", "nothing is deployed", None, "call ensure_app first")
        return self._supervisor

    def describe(self) -> Mapping[str, Any]:
        """Return the facts of the machine, who runs where, and which tools take part."""
        tools: dict[str, str] = {}
        for name in _FINDERS:
            try:
                tools[name.replace("-", "_")] = self._tool(name).version
            except InterferenceError as error:
                tools[name.replace("-", "_")] = str(error)
        return {
            "kind": self.kind,
            "machine": self._facts,
            "cores": self._cores.as_json(),
            **tools,
            "calibration": as_json(self._calibration),
            **(self._watch.describe() if self._watch else {}),
        }

    def check(self, case: Case) -> None:
        """Refuse what cannot run here; see :class:`pytest_aefm.testbeds.Testbed`.

        Raises:
            ConfigurationError: an application, a number of replicas or an interference that this testbed has not;
                or a metric of Prometheus where there is none.
            DeploymentError: the program that serves applications is missing.
            InterferenceError: stress-ng or iperf3 is needed, and missing or too old; or the dose does not fit.
        """
        topology = _topology(case.app)
        refuse_unwatched(case)
        if topology.services[topology.entry].replicas > 1:
            subject = f"app {case.app.name!r}: replicas.{topology.entry}"
            raise ConfigurationError(subject, "the entry has one replica on the local testbed", "1")
        find_mesh()
        for _, error in refusals(case.interference, self._stressors.held_bytes if self._stressors else 0):
            raise error
        refuse_faults(topology, case.interference)
        for spec in made_by_programs(asked_for(case.interference)):
            self._tool(program_of(spec))

    def ensure_app(self, app: AppSpec) -> Deployment:
        """Converge to a healthy deployment; see :class:`pytest_aefm.testbeds.Testbed`.

        Raises:
            DeploymentError: it did not come up, now or earlier.
        """
        self._refuse_failed(state_key("app", app))
        if self._app is None or self._spec != app or self._app.dead():
            self._deploy(app)
        return self._deployment()

    def ensure_interference(self, specs: tuple[InterferenceSpec, ...]) -> None:
        """Converge to exactly this interference; see :class:`pytest_aefm.testbeds.Testbed`.

        Raises:
            InterferenceError: it did not start in time, now or earlier.
        """
        key = state_key("interference", specs)
        self._refuse_failed(key)
        supervisor = self.supervisor
        if self._stressors is None:
            self._stressors = Stressors(supervisor, self._run_dir / "interference", self._cores.services)
        active = asked_for(specs)
        try:
            wanted = plan(active, self._host(made_by_programs(active)), BACKSTOP_S)
            self._stressors.converge(wanted, filling_s(active))
            if self._app is not None:
                set_faults(replicas_of(self._app), active)
        except InterferenceError as error:
            self._interference = ()
            with contextlib.suppress(InterferenceError):
                self._stressors.converge(())
            raise self._failed(key, error, InterferenceError, "interference") from error
        self._interference = active

    def settle(self) -> None:
        """Return once all is quiet; see :class:`pytest_aefm.testbeds.Testbed`.

        Raises:
            DeploymentError: it is not, not even after a restart.
        """
        if self._app is None or self._spec is None:
            raise DeploymentError("local testbed", "nothing is deployed", None, "call ensure_app first")
        key = self._environment()
        self._refuse_failed(key)
        first = self._settling.wait(self._app, key)
        if first is None:
            return
        self._deploy(self._spec)
        set_faults(replicas_of(self._app), self._interference)
        second = self._settling.wait(self._app, key)
        if second is not None:
            error = DeploymentError(f"app {self._spec.name!r}", f"not quiet: {first}; deployed anew: {second}")
            raise self._failed(key, error, DeploymentError, "")

    def start_load(self, driver: Driver, load: LoadSpec, script: Path, artifacts: Path) -> LoadRun:
        """Start a load run from the generator's cores against the entry of the deployed application.

        Raises:
            LoadError: it cannot be started.
        """
        cores = self._cores
        return driver.start(
            load,
            script,
            self._deployment().url,
            supervisor=self.supervisor,
            cpus=sorted(cores.generator),
            artifacts=artifacts,
            own_cores=not cores.shared,
        )

    def mark(self) -> Mark:
        """Read all counters now."""
        own = (os.getpid(), *descendants(self._supervisor.pid)) if self._supervisor else (os.getpid(),)
        faults = read_faults(replicas_of(self._app), self._interference)
        return take_mark(self._app, self._stressors.read() if self._stressors else (), faults, self._cores, own)

    def observe(self, before: Mark, after: Mark, window: Window) -> Observations:
        """Return what two marks say of a window; see :class:`pytest_aefm.testbeds.Testbed`."""
        facts = {"generation": self._generation, **self._settling.facts(self._environment())}
        return observations(before, after, window, self._cores, facts)

    def collectors(self, case: Case) -> Sequence[Collector]:
        """Return the collectors of this run: traces, and Prometheus where there is one."""
        if self._watch is None:
            return ()
        limits = {name: Limits(item.cpu_limit) for name, item in self._app.services.items()} if self._app else {}
        return self._watch.collectors(case, self._deployed_wall_s, limits)

    def vacate(self) -> None:
        """Stop interference and application, so that somebody else can measure; ``ensure_app`` deploys anew."""
        if self._supervisor is None:
            return
        if self._stressors is not None:
            self._stressors.converge(())
            self._interference = ()
        if self._app is not None:
            old, self._app = self._app, None
            old.stop()

    def close(self) -> tuple[str, ...]:
        """End every process, give pytest its cores back; return what is left over. Never raises."""
        if self._closed:
            return ()
        self._closed = True
        supervisor, self._supervisor = self._supervisor, None
        self._app = self._spec = self._stressors = None
        if supervisor is None:
            return ()
        problems: list[str] = []
        try:
            running = [reading for pid in descendants(supervisor.pid) if (reading := read_process(pid))]
            supervisor.close()
            left = [one.pid for one in running if (now := read_process(one.pid)) and now.started == one.started]
            problems += [f"local testbed: process {pid} does not end" for pid in left]
        except Exception as error:  # whatever it is, it must not hide what the session has to say
            problems.append(f"local testbed: {type(error).__name__}: {error}")
        with contextlib.suppress(OSError):
            place(os.getpid(), self._affinity, self._nice)
        return tuple(problems)

    def _start(self, ports: Mapping[str, int]) -> Watch:
        """Start what lives as long as the testbed: supervisor first, for what it starts has its priority."""
        if self._closed:
            raise DeploymentError("local testbed", "it is closed")
        self._run_dir.mkdir(parents=True, exist_ok=True)
        self._calibration = calibrate(find_mesh(), self._cache_dir)
        self._supervisor = Supervisor(self._run_dir / "supervisor.log")
        place(self._supervisor.pid, self._cores.generator)
        place(os.getpid(), self._cores.generator, _NICE)
        folder, cpus = self._run_dir / "watch", self._cores.generator
        self._watch = Watch.start(self._supervisor, folder, cpus, self._scrape_interval_s, ports)
        return self._watch

    def _deploy(self, app: AppSpec) -> None:
        """Replace what is deployed; a failure is remembered.

        Raises:
            DeploymentError: it did not come up.
        """
        try:
            self._replace_app(app)
        except (DeploymentError, SupervisorError, OSError) as error:
            raise self._failed(state_key("app", app), error, DeploymentError, f"app {app.name!r}") from error

    def _replace_app(self, app: AppSpec) -> None:
        """Deploy on the same ports as before, as far as they are free: Prometheus goes on scraping at once."""
        if self._app is not None:
            old, self._app = self._app, None
            old.stop()
        topology = _topology(app)
        for attempt in range(_ATTEMPTS):
            known = () if attempt else self._ports.get(app.name, {}).values()
            names = topology.processes()
            ports = dict(zip(names, free_ports(len(names), known), strict=True))
            watch = self._watch or self._start(ports)
            watch.follow(ports)
            self._generation, self._deployed_wall_s = self._generation + 1, time.time()
            try:
                self._app = deploy(topology, self._plan(watch), ports, self._generation)
                break
            except PortTakenError:
                if attempt == _ATTEMPTS - 1:
                    raise
        self._spec, self._ports[app.name] = app, ports
        watch.confirm()

    def _plan(self, watch: Watch) -> DeployPlan:
        assert self._calibration is not None, "set when the watchers were started"
        return DeployPlan(
            program=find_mesh().path,
            supervisor=self.supervisor,
            folder=self._run_dir / "services",
            cpus=self._cores.services,
            iterations_per_us=self._calibration.iterations_per_us,
            otlp_endpoint=watch.traces.receiver.endpoint,
            ready_timeout_s=self._ready_timeout_s,
        )

    def _deployment(self) -> Deployment:
        if self._app is None or self._spec is None:
            raise DeploymentError("local testbed", "nothing is deployed", None, "call ensure_app first")
        services = {
            name: {"pid": item.process.pid, "url": f"http://127.0.0.1:{item.port}", "cpu_limit": item.cpu_limit}
            for name, item in self._app.services.items()
        }
        return Deployment(
            app=self._spec.name,
            url=f"http://127.0.0.1:{self._app.entry.port}",
            services=services,
            description=self._app.topology.description or _find(self._spec).description,
            generation=self._generation,
            details={"testbed": self.kind, "cores": self._cores.as_json(), "calibration": as_json(self._calibration)},
        )

    def _tool(self, name: str) -> Tool:
        if name not in self._tools:
            self._tools[name] = _FINDERS[name]()
        return self._tools[name]

    def _host(self, specs: Sequence[InterferenceSpec]) -> Host:
        """Return what recipes need; traffic that does not run already gets a port that is free now."""
        if any(program_of(spec) == "iperf3" and spec not in self._interference for spec in specs):
            (self._network_port,) = free_ports(1)
        programs = {name: self._tool(name).program for name in map(program_of, specs)}
        return Host(programs, self._network_port, self._cache_bytes)

    def _environment(self) -> str:
        return state_key("environment", (self._spec, self._interference))

    def _refuse_failed(self, key: str) -> None:
        """Fail at once where the same state failed before: it would cost its deadline again, for each case."""
        first = self._failures.get(key)
        if first is not None:
            raise type(first)(first.subject, f"failed before and is not tried again: {first.what}")

    def _failed(self, key: str, error: Exception, kind: type[AefmError], subject: str) -> AefmError:
        known = error if isinstance(error, kind) else kind(subject, str(error))
        self._failures[key] = known
        return known


def _topology(app: AppSpec) -> Topology:
    return load_topology(_find(app).topology_path).scaled(app.replicas)


def _find(app: AppSpec) -> App:
    """Return the application: of the user's own topology file, or one that comes along."""
    return App(app.name, Path(app.topology), "") if app.topology else find_app(app.name)
