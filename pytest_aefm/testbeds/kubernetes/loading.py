"""Load from inside the cluster: generators as pods that start together, their results merged into one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from pytest_aefm.errors import AefmError, ConfigurationError, LoadError
from pytest_aefm.load.aefm_wrk import AefmWrk
from pytest_aefm.load.parts import divide
from pytest_aefm.model import LoadSpec
from pytest_aefm.testbeds.kubernetes.applying import MANAGER
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection, Resource
from pytest_aefm.testbeds.kubernetes.deadman import JOBS
from pytest_aefm.testbeds.kubernetes.edits import RUN_LABEL
from pytest_aefm.testbeds.kubernetes.load_pods import LoadPods
from pytest_aefm.testbeds.kubernetes.load_run import MEET_S, SUBJECT, ClusterRun, Keeper
from pytest_aefm.testbeds.kubernetes.manifests import LOAD, ROLE_LABEL
from pytest_aefm.testbeds.kubernetes.priority import make_priority, wait_known
from pytest_aefm.testbeds.kubernetes.removing import Leftover, remove

__all__ = ["ClusterLoad", "InsideDriver", "inside_url"]

Json = dict[str, Any]

_SCRIPT_BYTES = 900_000  # a ConfigMap holds 1 MiB
_SERVICES = Resource("v1", "Service", "services", True)
_MAPS = Resource("v1", "ConfigMap", "configmaps", True)
_numbers = itertools.count(1)


def inside_url(connection: Connection, namespace: str, service: str) -> str:
    """Return the URL of a Service's first port as pods reach it.

    Raises:
        ApiError: there is no such Service.
    """
    body = connection.get(f"/api/v1/namespaces/{namespace}/services/{service}")
    return f"http://{service}.{namespace}.svc:{body['spec']['ports'][0]['port']}"


class InsideDriver:
    """The driver of load from pods, as far as this machine has to do with it; see :class:`pytest_aefm.load.Driver`."""

    name = "aefm-wrk"

    def check_script(self, script: Path) -> None:
        """Run the script dry on this machine if it has a generator; else its first run in the cluster will tell.

        Raises:
            ScriptError: it has an error; the subject is its file and line.
            ConfigurationError: it is too large to be sent to a cluster.
        """
        _text(script)
        try:
            driver = AefmWrk.find()
        except LoadError:
            return
        driver.check_script(script)

    def start(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: :meth:`ClusterLoad.start` starts it.

        Raises:
            LoadError: always.
        """
        raise LoadError(f"load driver {self.name}", "runs in pods", None, "--aefm-load-from local drives from here")


class ClusterLoad:
    """Drives loads from pods on ``nodes``, ``pods`` of them, whose ``image`` holds pytest_aefm and its generator.

    ``ready_s`` is how long the pods may take until they run.
    """

    def __init__(
        self,
        connection: Connection,
        dead_man: Keeper,
        *,
        namespace: str,
        run: str,
        nodes: Sequence[str],
        pods: int,
        image: str,
        ready_s: float = 120.0,
    ) -> None:
        if not nodes:
            hint = "give role load to a node of the experiment, or label one aefm.dev/testbed=load"
            raise ConfigurationError(SUBJECT, "no node of role load", "one where nothing under test runs", hint)
        self._connection, self._dead_man = connection, dead_man
        self._namespace, self._run, self._nodes = namespace, run, tuple(nodes)
        self._pods, self._image, self._ready_s = pods, image, ready_s
        self._priority: Leftover | None = None
        self._ready = False

    def start(self, driver_name: str, load: LoadSpec, script: Path, url: str, artifacts: Path) -> ClusterRun:
        """Start a load against ``url``, as pods reach it; returns once all pods have agreed on their start.

        Raises:
            LoadError: the pods do not come up, with pod, reason and the tail of the log.
            DisruptionError: the cluster took one of them away.
            ConfigurationError: the script is too large to be sent to a cluster.
        """
        if driver_name != "aefm-wrk":
            expected, hint = "aefm-wrk", "--aefm-load-from local drives with other generators"
            raise LoadError(f"load driver {driver_name}", "does not run in the cluster", expected, hint)
        text, parts = _text(script), divide(load, self._pods)
        name = f"aefm-load-{self._run}-{next(_numbers)}".lower()
        pods = LoadPods(name, self._namespace, self._run, self._image, self._nodes, parts, url, MEET_S)
        try:
            pods = self._ranked(pods)
            made = self._create(pods, text)
        except ApiError as error:
            raise LoadError(SUBJECT, f"the cluster refused it: {error}") from error
        run = ClusterRun(self._connection, self._dead_man, made, pods, script, artifacts, self._pods)
        try:
            run.begin(self._ready_s)
        except BaseException:
            run.stop()
            raise
        return run

    def stop(self) -> list[str]:
        """Remove all that is left of this run's loads; return what could not be removed, and why."""
        selector = f"{RUN_LABEL}={self._run},{ROLE_LABEL}={LOAD}"
        left: list[Leftover] = []
        try:
            left += [self._priority] if self._priority is not None else []
            self._priority, self._ready = None, False
            for resource in (JOBS, _SERVICES, _MAPS):
                listed = self._connection.get(resource.path(self._namespace), labelSelector=selector)
                left += (self._leftover(resource, item) for item in listed["items"])
            for item in left:
                self._dead_man.drop(item.path)
            return remove(self._connection, left, deadline_s=30.0)
        except AefmError as error:
            return [f"{SUBJECT}: {error}"]

    def _ranked(self, pods: LoadPods) -> LoadPods:
        """Return pods of the lowest priority, where that is allowed; its class is made once."""
        if not self._ready:
            self._priority = make_priority(self._connection, self._run, LOAD)
            if self._priority is not None:
                ranked = replace(pods, priority_class=self._priority.name)
                wait_known(self._connection, self._namespace, ranked.template)
            self._ready = True
        return pods if self._priority is None else replace(pods, priority_class=self._priority.name)

    def _create(self, pods: LoadPods, script: bytes) -> list[Leftover]:
        """Create a load's objects; return them, the Job first."""
        host, made = None, []
        if len(pods.parts) > 1:
            service = self._apply(pods.service(), _SERVICES)
            made.append(self._leftover(_SERVICES, service))
            host = str(service["spec"]["clusterIP"])
        made.append(self._leftover(_MAPS, self._apply(pods.config_map(script, host), _MAPS)))
        job = self._leftover(JOBS, self._apply(pods.job(), JOBS))
        self._dead_man.keep(job.path, job.uid)
        return [job, *made]

    def _apply(self, body: Json, resource: Resource) -> Json:
        return self._connection.apply(resource.path(self._namespace, body["metadata"]["name"]), body, MANAGER)

    def _leftover(self, resource: Resource, body: Json) -> Leftover:
        metadata = body["metadata"]
        return Leftover(self._run, resource, self._namespace, metadata["name"], metadata["uid"])


def _text(script: Path) -> bytes:
    """Return a script as it is sent to a cluster.

    Raises:
        ConfigurationError: it is too large for that.
    """
    text = script.read_bytes()
    if len(text) > _SCRIPT_BYTES:
        raise ConfigurationError(str(script), f"{len(text)} bytes", f"at most {_SCRIPT_BYTES} for {SUBJECT}")
    return text
