"""One application in its namespace, with what disturbs and drives it there: deployed, reached, read, stopped."""

from __future__ import annotations

import time

from pytest_aefm.collectors.figures import Limits
from pytest_aefm.errors import DeploymentError
from pytest_aefm.model import AppSpec, InterferenceSpec
from pytest_aefm.testbeds import Node
from pytest_aefm.testbeds.kubernetes.amounts import amount
from pytest_aefm.testbeds.kubernetes.application import Wanted, wanted_app
from pytest_aefm.testbeds.kubernetes.cluster import INFRA, LOAD, TESTBED, cluster_nodes, named, unready
from pytest_aefm.testbeds.kubernetes.connection import ApiError
from pytest_aefm.testbeds.kubernetes.converging import DeployedApp
from pytest_aefm.testbeds.kubernetes.disturbances import Disturbances
from pytest_aefm.testbeds.kubernetes.entry import Entry, entry_url, wait_answering
from pytest_aefm.testbeds.kubernetes.forwarding import Forward
from pytest_aefm.testbeds.kubernetes.load_path import LoadPath
from pytest_aefm.testbeds.kubernetes.loading import ClusterLoad, inside_url
from pytest_aefm.testbeds.kubernetes.observing import PodMark, PodState
from pytest_aefm.testbeds.kubernetes.place import Place, attempt
from pytest_aefm.testbeds.kubernetes.preflight_needs import Remark
from pytest_aefm.testbeds.kubernetes.run_pods import read_pods
from pytest_aefm.testbeds.kubernetes.ways import examine_ways

__all__ = ["Stage"]

_ANSWER_S = 30.0
_FRESH_S = 2.0
"""How long what was seen of a deployment holds: each case asks for it several times in a row."""


class Stage:
    """The application ``name`` in ``namespace``; ``spec`` is what is deployed and answers, None until it does.

    ``pods`` are those that were read last, ``disturbances`` what disturbs it.
    """

    def __init__(self, place: Place, name: str, namespace: str) -> None:
        self._place, self.name, self.namespace = place, name, namespace
        timeout_s = place.ready_timeout_s
        self._deployed = DeployedApp(
            place.connection, name, namespace, place.run, deadline_s=timeout_s, nodes=self._unready
        )
        self._wish: AppSpec | None = None
        self._wanted: Wanted | None = None
        self._entry: Entry | None = None
        self._forward: Forward | None = None
        self._load: ClusterLoad | None = None
        self._path: LoadPath | None = None
        self.spec: AppSpec | None = None
        self.nodes: tuple[Node, ...] = ()
        self.pods = PodMark({})
        self._stood_s = 0.0
        self.disturbances = Disturbances(place, namespace)

    @property
    def wanted(self) -> Wanted:
        """What is to be deployed, once :meth:`plan` was called."""
        assert self._wanted is not None, "planned before it is deployed"
        return self._wanted

    @property
    def entry(self) -> Entry:
        """Where it is reached, once it is deployed."""
        assert self._entry is not None, "found when it was deployed"
        return self._entry

    @property
    def path(self) -> LoadPath:
        """The way of the load to it, once it is deployed."""
        assert self._path is not None, "found when it was deployed"
        return self._path

    def plan(self, app: AppSpec) -> None:
        """Make the manifests of an application, unless they are made already.

        Raises:
            ConfigurationError: a file, an image or an edit is wrong.
            DeploymentError: a node that the experiment names is not there.
        """
        if app == self._wish:
            return
        place = self._place
        self.nodes = cluster_nodes(place.connection, app.cluster.nodes)
        self._wanted = wanted_app(
            app,
            image=place.options.app_image,
            namespace=self.namespace,
            run=place.run,
            nodes=[(node.name, node.roles) for node in self.nodes if node.roles],
            iterations_per_us=place.iterations_per_us,
            otlp=place.options.otlp,
        )
        self._wish = app

    def converge(self) -> bool:
        """Deploy what was planned; return False where it stands already, and nothing was done.

        Raises:
            DeploymentError: a node is not Ready, the application does not get ready, or does not answer.
        """
        if self.spec is not None and self.spec == self._wish and time.monotonic() - self._stood_s < _FRESH_S:
            return False
        changed = not self._deployed.stands(self.wanted.manifests)
        if changed:
            self.spec = None
            if wrong := self._unready():
                raise DeploymentError(self._place.connection.name, "; ".join(wrong), "nodes that are Ready")
            self._deployed.converge(self.wanted.manifests)
        if self.spec != self._wish:
            self._arrive()
        else:
            self.pods = read_pods(self._place.connection, self.namespace, self._place.run)
            if self._forward is not None and self._forward.url() != self.entry.url:  # it had ended
                self._arrive()
        self._stood_s = time.monotonic()
        return changed

    def _unready(self) -> list[str]:
        """Say which of the nodes that it needs are not Ready, as far as anybody answers."""
        names = dict.fromkeys((*named(self.nodes, TESTBED), *named(self.nodes, INFRA)))
        try:
            return unready(self._place.connection, names)
        except ApiError:
            return []

    def restart(self) -> None:
        """Deploy all of it anew.

        Raises:
            DeploymentError: it does not get ready again, or does not answer.
        """
        self.spec = None
        self._deployed.restart()
        self._arrive()
        self._stood_s = time.monotonic()
        self.disturbances.renew()

    def _arrive(self) -> None:
        """Find where it is reached, and see that it answers there."""
        self.pods = read_pods(self._place.connection, self.namespace, self._place.run)
        wanted = self.wanted
        self._entry = Entry(self.name, self._url(), wanted.smoke, wanted.mesh)
        where = (self._place.connection, self.namespace, wanted.entry, wanted.selector)
        self._path = LoadPath(*where, mesh=wanted.mesh)
        wait_answering(self.name, self._entry.url, wanted.smoke, deadline_s=_ANSWER_S)
        self.spec = self._wish

    def _url(self) -> str:
        assert self._wish is not None, "planned before it is reached"
        connection, options, service = self._place.connection, self._place.options, self.wanted.entry
        if self._wish.cluster.entry_url is not None:
            return self._wish.cluster.entry_url
        if options.entry == "port-forward":
            if self._forward is None:
                path = f"/api/v1/namespaces/{self.namespace}/services/{service}"
                port = int(connection.get(path)["spec"]["ports"][0]["port"])
                host, folder = self._place.host(), self._place.folder / "entry"
                self._forward = Forward(host, folder, options, self.namespace, service, port)
            return self._forward.url()
        # A node where it runs, so that no other one has to pass requests on.
        addresses = {node.name: node.facts.get("address") for node in self.nodes}
        pods = (pod for pod in self.pods.pods.values() if pod.workload == service)
        host_address = next((addresses.get(pod.node) or pod.address for pod in pods), None)
        return entry_url(connection, self.namespace, service, host_address, options.entry)

    def disturb(self, specs: tuple[InterferenceSpec, ...]) -> None:
        """Converge to exactly these disturbances; see :meth:`.Disturbances.converge`."""
        self.disturbances.converge(specs, named(self.nodes, TESTBED))

    @property
    def load_nodes(self) -> tuple[str, ...]:
        """The nodes for load from inside: those of its role, else of infra, without anything under test."""
        busy = named(self.nodes, TESTBED)
        return named(self.nodes, LOAD) or tuple(name for name in named(self.nodes, INFRA) if name not in busy)

    def examine_ways(self) -> list[Remark]:
        """Try what network policies could block; see :func:`pytest_aefm.testbeds.kubernetes.ways.examine_ways`."""
        place, url = self._place, inside_url(self._place.connection, self.namespace, self.wanted.entry)
        where = (place.connection, self.namespace, place.run, place.options)
        return examine_ways(*where, self.wanted, url, self.load_nodes)

    def inside(self) -> tuple[ClusterLoad, str]:
        """Return what drives load from inside the cluster, and the URL that it drives.

        Raises:
            ConfigurationError: there is no node for it.
        """
        if self._load is None:
            assert self._place.options.load_image is not None, "checked before anything is deployed"
            self._load = ClusterLoad(
                self._place.connection,
                self._place.dead_man,
                namespace=self.namespace,
                run=self._place.run,
                nodes=self.load_nodes,
                pods=self._place.options.load_pods,
                image=self._place.options.load_image,
            )
        return self._load, inside_url(self._place.connection, self.namespace, self.wanted.entry)

    def workloads(self) -> dict[str, str]:
        """Return by the name of each pod which workload it belongs to."""
        return {pod.name: pod.workload for pod in self.pods.pods.values()}

    def limits(self) -> dict[str, Limits]:
        """Return by the name of each pod what it may use: there is no limit where a container has none."""

        def together(pod: PodState, resource: str) -> float | None:
            found = [one.limits.get(resource) for one in pod.containers.values()]
            return sum(map(amount, found)) if all(found) else None

        return {pod.name: Limits(together(pod, "cpu"), together(pod, "memory")) for pod in self.pods.pods.values()}

    def stop(self) -> list[str]:
        """Stop what disturbs and drives it; return what could not be removed. Never raises."""
        problems = attempt(self._load.stop) if self._load is not None else []
        problems += self.disturbances.stop()
        problems += attempt(self._forward.close) if self._forward is not None else []
        self._load = self._forward = None
        return problems

    def remove(self, deadline_s: float) -> list[str]:
        """Remove it; return what could not be removed. Never raises."""
        return attempt(lambda: self._deployed.remove(deadline_s=deadline_s))
