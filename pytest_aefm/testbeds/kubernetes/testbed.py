"""The Kubernetes testbed: one application in one namespace of a cluster, disturbed, driven, watched and removed."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pytest_aefm.collectors import Collector, Observations
from pytest_aefm.errors import AefmError, DeploymentError, DisruptionError
from pytest_aefm.interference import asked_for, made_by_programs
from pytest_aefm.load import Driver, LoadRun
from pytest_aefm.mesh.calibrate import calibrate
from pytest_aefm.mesh.program import find_mesh
from pytest_aefm.model import AppSpec, Case, InterferenceSpec, LoadSpec, Window
from pytest_aefm.options import ClusterOptions
from pytest_aefm.supervisor import Supervisor
from pytest_aefm.testbeds import Deployment, Node, state_key
from pytest_aefm.testbeds.kubernetes.application import default_namespace
from pytest_aefm.testbeds.kubernetes.chaos import chaos_of, refuse_chaos
from pytest_aefm.testbeds.kubernetes.cluster import INFRA, LOAD, TESTBED, named, on_this_machine
from pytest_aefm.testbeds.kubernetes.connection import ApiError
from pytest_aefm.testbeds.kubernetes.deadman import DeadMan
from pytest_aefm.testbeds.kubernetes.marks import Mark, Scene, observations, take_mark
from pytest_aefm.testbeds.kubernetes.observing import service_facts
from pytest_aefm.testbeds.kubernetes.place import Place, attempt
from pytest_aefm.testbeds.kubernetes.preflight import Needs, Remark
from pytest_aefm.testbeds.kubernetes.refusing import refuse_bad, refuse_case, refuse_unfit
from pytest_aefm.testbeds.kubernetes.removing import made_by, remove
from pytest_aefm.testbeds.kubernetes.run_pods import read_pods
from pytest_aefm.testbeds.kubernetes.sources import jaeger_url, metric_collectors, prometheus_url, trace_collectors
from pytest_aefm.testbeds.kubernetes.stage import Stage
from pytest_aefm.testbeds.kubernetes.turns import Turn, reach
from pytest_aefm.testbeds.local_counters import place
from pytest_aefm.testbeds.machine import plan_cores
from pytest_aefm.testbeds.settling import Settling

__all__ = ["KubernetesTestbed", "kept_run"]

_NICE = 10
_REMOVE_S = 120.0


class KubernetesTestbed:
    """A :class:`~pytest_aefm.testbeds.Testbed` on a cluster; nothing is made there before the first application.

    ``run`` labels all that is made; ``run_dir`` takes logs, ``cache_dir`` what holds for this machine. An application
    may take ``ready_timeout_s`` seconds to get ready.
    """

    kind = "kubernetes"

    def __init__(
        self, options: ClusterOptions, run: str, run_dir: Path, cache_dir: Path, *, ready_timeout_s: float = 300.0
    ) -> None:
        self._options, self._run = options, kept_run(options) if options.keep else run
        self._run_dir, self._cache_dir = run_dir, cache_dir
        self._connection = reach(options)
        self._turn = Turn(self._connection, options, self._run)
        self._dead_man = DeadMan(self._connection, lost=lambda: self._turn.lost)
        self._place = Place(
            self._connection,
            self._dead_man,
            options,
            self._run,
            run_dir,
            self._host,
            lambda: calibrate(find_mesh(), cache_dir).iterations_per_us,
            ready_timeout_s,
            lambda: self._turn.lost,
        )
        self._supervisor: Supervisor | None = None
        self._affinity, self._nice = os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, 0)
        self._stage: Stage | None = None
        self._generation, self._disturbs, self._touched = 0, False, False
        self._examined: dict[str, list[Remark]] = {}
        self._settling = Settling()
        self._failures: dict[str, AefmError] = {}
        self._closed = False
        self.kept: tuple[str, ...] = ()

    # --- turns -------------------------------------------------------------------------------------------------------

    def acquire(self, wait_s: float, tell: Callable[[str], None] = lambda _: None) -> None:
        """Take the cluster; see :meth:`Turn.acquire`.

        Raises:
            DeploymentError: another run uses it; names it.
        """
        self._turn.acquire(max(wait_s, self._options.wait_s), tell)

    def release(self) -> None:
        """Leave the cluster to others, after :meth:`vacate`."""
        self._turn.release(unfinished=self._options.keep)

    # --- converging --------------------------------------------------------------------------------------------------

    def describe(self) -> Mapping[str, Any]:
        """Return what is known of the cluster: its server and nodes, and what preflight warns of."""
        nodes = self._stage.nodes if self._stage else ()
        remarks = [one for found in self._examined.values() for one in found if one.state != "ok"]
        return {
            "kind": self.kind,
            "cluster": self._connection.name,
            "server": self._server,
            "nodes": {node.name: {"roles": list(node.roles), **_told(node)} for node in nodes},
            "preflight": [f"{one.subject}: {one.found}" for one in remarks],
        }

    def check(self, case: Case) -> None:
        """Refuse what cannot run here; see :class:`pytest_aefm.testbeds.Testbed`.

        Raises:
            ConfigurationError: a disturbance is none, an image is not known, Chaos Mesh is needed and not there, or an
                SLO asks for what is not collected here.
        """
        refuse_case(case, self._options)
        active = asked_for(case.interference)
        refuse_chaos(self._connection, chaos_of(active), self._namespace(case.app))
        self._disturbs = self._disturbs or bool(made_by_programs(active))

    def ensure_app(self, app: AppSpec) -> Deployment:
        """Converge to a healthy deployment; see :class:`pytest_aefm.testbeds.Testbed`.

        Raises:
            DeploymentError: it did not come up, now or earlier; the cluster is another's, or not fit.
        """
        key = state_key("app", app)
        self._refuse_failed(key)
        self._turn.require()
        try:
            return self._deployment(self._converge(app))
        except AefmError as error:
            raise self._failed(key, error) from error

    def ensure_interference(self, specs: tuple[InterferenceSpec, ...]) -> None:
        """Converge to exactly this interference; see :class:`pytest_aefm.testbeds.Testbed`.

        Raises:
            InterferenceError: it did not start in time, does not fit, or there is no node for it.
            DisruptionError: the cluster took a pod of it away meanwhile.
        """
        stage, active = self._deployed_stage(), asked_for(specs)
        if not active and not stage.disturbances.made:
            return
        key = state_key("interference", (stage.spec, active))
        self._refuse_failed(key)
        self._turn.require()
        try:
            stage.disturb(active)
        except AefmError as error:
            with contextlib.suppress(AefmError):
                stage.disturb(())
            raise self._failed(key, error) from error

    def settle(self) -> None:
        """Return once all is quiet; see :class:`pytest_aefm.testbeds.Testbed`.

        Raises:
            DeploymentError: it is not, not even after a restart.
        """
        stage, key = self._deployed_stage(), self._environment()
        self._refuse_failed(key)
        first = self._settling.wait(stage.entry, key)
        if first is None:
            return
        self._generation += 1
        stage.restart()
        second = self._settling.wait(stage.entry, key)
        if second is not None:
            error = DeploymentError(f"app {stage.name!r}", f"not quiet: {first}; deployed anew: {second}")
            raise self._failed(key, error)

    # --- measuring ---------------------------------------------------------------------------------------------------

    def start_load(self, driver: Driver, load: LoadSpec, script: Path, artifacts: Path) -> LoadRun:
        """Start a load run against the entry: from this machine, or from pods.

        Raises:
            LoadError: it cannot be started.
        """
        stage = self._deployed_stage()
        self._turn.require()
        stage.path.begin(drives=self._options.load_from != "cluster")
        if self._options.load_from == "cluster":
            inside, url = stage.inside()
            return inside.start(driver.name, load, script, url, artifacts)
        return driver.start(
            load,
            script,
            stage.entry.url,
            supervisor=self._host(),
            cpus=sorted(self._cpus),
            artifacts=artifacts,
            own_cores=not on_this_machine(stage.nodes),
        )

    def mark(self) -> Mark:
        """Read all counters now."""
        stage = self._deployed_stage()
        mark = take_mark(self._scene(stage), stage.disturbances)
        stage.pods = mark.pods
        return mark

    def observe(self, before: Mark, after: Mark, window: Window) -> Observations:
        """Return what two marks say of a window; see :class:`pytest_aefm.testbeds.Testbed`."""
        stage = self._deployed_stage()
        seen = observations(self._scene(stage), before, after, window, stage.disturbances, self._turn.lost)
        effect, checks = stage.path.end()  # last: it may wait for a service that does not answer
        path = {"load_path": effect} if effect else {}
        return replace(seen, effect={**seen.effect, **path}, checks=(*seen.checks, *checks))

    def collectors(self, case: Case) -> Sequence[Collector]:
        """Return the collectors of this run: those that ask Prometheus, Jaeger or Tempo, where these are known."""
        stage = self._deployed_stage()
        return (*metric_collectors(stage, self._options, case), *trace_collectors(stage, self._options))

    # --- leaving -----------------------------------------------------------------------------------------------------

    def vacate(self) -> None:
        """Stop interference and load, remove the application; ``ensure_app`` deploys anew."""
        stage, self._stage = self._stage, None
        if stage is None:
            return
        problems = stage.stop() + ([] if self._options.keep else stage.remove(_REMOVE_S))
        if problems:
            raise DeploymentError(f"app {stage.name!r}", f"cannot be removed: {'; '.join(problems)}")

    def close(self) -> tuple[str, ...]:
        """Remove everything and leave the cluster to others; return what is left over. Never raises."""
        if self._closed:
            return ()
        self._closed = True
        problems: list[str] = []
        stage, self._stage = self._stage, None
        kept = self._options.keep and stage is not None and stage.spec is not None
        if stage is not None:
            problems += stage.stop()
        problems += attempt(self._supervisor.close) if self._supervisor else []
        self._dead_man.close()
        if self._touched and not kept:
            problems += attempt(self._remove_all)
        if kept and stage is not None:
            context = f" --context {self._options.context}" if self._options.context else ""
            where = f"namespace {stage.namespace} of {self._connection.name}"
            how = f"aefm clean{context} --run {self._run}"
            self.kept = (f"app {stage.name!r} is kept in {where}; a run without --aefm-keep removes it, or: {how}",)
        problems += attempt(lambda: self._turn.release(unfinished=bool(kept or problems)))
        problems += attempt(self._connection.close)
        with contextlib.suppress(OSError):
            place(os.getpid(), self._affinity, self._nice)
        return tuple(problems)

    def _remove_all(self) -> list[str]:
        left = made_by(self._connection, self._run, self._options.namespace)
        return remove(self._connection, left, deadline_s=_REMOVE_S)

    # --- parts -------------------------------------------------------------------------------------------------------

    def _converge(self, app: AppSpec) -> Stage:
        namespace = self._namespace(app)
        stage = self._stage
        if stage is None or (stage.name, stage.namespace) != (app.name, namespace):
            stage = self._change_stage(app.name, namespace)
        stage.plan(app)
        self._examine(app, stage)
        if stage.converge():
            self._generation += 1
        if (key := state_key("ways", app)) not in self._examined:
            self._examined[key] = refuse_bad(self._connection, stage.examine_ways())
        return stage

    def _namespace(self, app: AppSpec) -> str:
        return self._options.namespace or app.namespace or default_namespace(app.name, self._run)

    def _change_stage(self, app: str, namespace: str) -> Stage:
        """Make room: the application before goes, and what an earlier session kept of another one."""
        self.vacate()
        if self._options.keep:
            old = made_by(self._connection, self._run, self._options.namespace)
            placed = [item for item in old if item.namespace or item.resource.kind == "Namespace"]
            others = [item for item in placed if namespace not in (item.name, item.namespace)]
            if problems := remove(self._connection, others, deadline_s=_REMOVE_S):
                raise DeploymentError(f"app {app!r}", f"what was kept cannot be removed: {'; '.join(problems)}")
        self._stage, self._touched = Stage(self._place, app, namespace), True
        return self._stage

    def _examine(self, app: AppSpec, stage: Stage) -> None:
        """Look at the cluster once for each application, before anything is deployed.

        Raises:
            DeploymentError: something there is bad.
        """
        if (key := state_key("cluster", app)) in self._examined:
            return
        there = read_pods(self._connection, stage.namespace, self._run).pods
        needs = Needs(
            namespace=self._options.namespace,
            nodes=tuple(app.cluster.nodes),
            interference=self._disturbs,
            load_pods=self._options.load_pods if self._options.load_from == "cluster" else 0,
            prometheus=prometheus_url(self._options, app),
            jaeger=jaeger_url(self._options, app),
            tempo=self._options.tempo,
            otlp=self._options.otlp,
            lease_namespace=self._options.lease_home,
            run=self._run,
            roles={role: named(stage.nodes, role) for role in (TESTBED, INFRA, LOAD)},
            manifests=None if there else stage.wanted.manifests,
            port_forward=self._options.entry == "port-forward",
            allow_shared=self._options.allow_shared,
        )
        self._examined[key] = refuse_unfit(self._connection, needs)

    def _deployment(self, stage: Stage) -> Deployment:
        return Deployment(
            app=stage.name,
            url=stage.entry.url,
            services=service_facts(stage.pods),
            description=stage.wanted.description,
            generation=self._generation,
            details={"testbed": self.kind, "namespace": stage.namespace, **self.describe()},
        )

    def _scene(self, stage: Stage) -> Scene:
        facts = {
            "generation": self._generation,
            **self._settling.facts(self._environment()),
            "entry": self._options.entry or "service",
        }
        cpus = frozenset() if self._options.load_from == "cluster" else self._cpus
        forwarded = bool(cpus) and self._options.entry == "port-forward"
        where = (self._connection, stage.namespace, self._run, stage.nodes, stage.wanted.manifests)
        return Scene(*where, cpus, forwarded, facts, admitted=self._options.allow_forward)

    def _host(self) -> Supervisor:
        """Return the owner of what runs on this machine; pytest itself makes room for the generator."""
        if self._supervisor is None:
            self._run_dir.mkdir(parents=True, exist_ok=True)
            self._supervisor = Supervisor(self._run_dir / "supervisor.log")
            place(os.getpid(), self._affinity, _NICE)
        return self._supervisor

    def _deployed_stage(self) -> Stage:
        if self._stage is None or self._stage.spec is None:
            raise DeploymentError(self._connection.name, "nothing is deployed", None, "call ensure_app first")
        return self._stage

    @cached_property
    def _cpus(self) -> frozenset[int]:
        return plan_cores().generator

    @cached_property
    def _server(self) -> str:
        return str(self._connection.get("/version").get("gitVersion"))

    def _environment(self) -> str:
        stage = self._deployed_stage()
        return state_key("environment", (stage.spec, stage.disturbances.active))

    def _refuse_failed(self, key: str) -> None:
        """Fail at once where the same state failed before: it would cost its deadline again, for each case."""
        first = self._failures.get(key)
        if first is not None:
            what = f"failed before and is not tried again: {first.what.splitlines()[0]}"
            raise type(first)(first.subject, what, None, first.hint)

    def _failed(self, key: str, error: AefmError) -> AefmError:
        """Remember an error, unless it may have passed: nobody answered, or a pod of ours was taken away."""
        causes = [one for one in (error, error.__cause__) if isinstance(one, ApiError)]
        if not any(one.status == 0 for one in causes) and not isinstance(error, DisruptionError):
            self._failures[key] = error
        return error


def kept_run(options: ClusterOptions) -> str:
    """Return the run of an application that outlives its session: the next one with the same Lease goes on with it."""
    return f"kept-{hashlib.sha256(options.lease_home.encode()).hexdigest()[:8]}"


def _told(node: Node) -> dict[str, Any]:
    """Return the facts of a node that are worth reporting."""
    return {name: value for name, value in node.facts.items() if name != "boot_id"}
