"""One application in one namespace: converged to what is wanted, reloaded, restarted, removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pytest_aefm.errors import DeploymentError
from pytest_aefm.testbeds.kubernetes.applying import Applied, apply_all, ensure_namespace
from pytest_aefm.testbeds.kubernetes.connection import Connection
from pytest_aefm.testbeds.kubernetes.edits import APP_LABEL, RUN_LABEL
from pytest_aefm.testbeds.kubernetes.health import lacking
from pytest_aefm.testbeds.kubernetes.manifests import INTERFERENCE, LOAD, UNDER_TEST, Manifest
from pytest_aefm.testbeds.kubernetes.removing import Leftover, find_leftovers, remove
from pytest_aefm.testbeds.kubernetes.waiting import wait_ready

__all__ = ["DeployedApp"]


class DeployedApp:
    """An application of a run; manifests are those that are edited already.

    ``generation`` counts how often something of it was applied; ``deadline_s`` is how long it may take to get ready,
    ``nodes`` says what is wrong with those that it needs.
    """

    def __init__(
        self,
        connection: Connection,
        app: str,
        namespace: str,
        run: str,
        *,
        deadline_s: float = 300.0,
        nodes: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._connection, self._app, self._namespace, self._run = connection, app, namespace, run
        self._deadline_s, self._nodes = deadline_s, nodes
        self._wanted: tuple[Manifest, ...] = ()
        self._applied: tuple[Applied, ...] = ()
        self._ours = False
        self.generation = 0

    @property
    def applied(self) -> tuple[Applied, ...]:
        """What was applied last."""
        return self._applied

    def converge(self, manifests: Sequence[Manifest]) -> bool:
        """Make the cluster have what is wanted; return False where it has, and nothing was done.

        Only what differs is replaced, and what is wanted no more goes.

        Raises:
            DeploymentError: it does not get ready.
        """
        if self.stands(manifests):
            return False
        self._apply(tuple(manifests))
        return True

    def stands(self, manifests: Sequence[Manifest]) -> bool:
        """Whether exactly this is deployed and ready."""
        return bool(self._wanted) and tuple(manifests) == self._wanted and self._is_ready()

    def reload(self) -> None:
        """Replace what is under test; infra stays, and with it the data.

        Raises:
            DeploymentError: it does not go, or not get ready again.
        """
        self._remove(self._leftover(item) for item in self._applied if item.manifest.role == UNDER_TEST)
        self._apply(self._wanted)

    def restart(self) -> None:
        """Replace all of it, volumes included; data is to be seeded again.

        Raises:
            DeploymentError: it does not go, or not get ready again.
        """
        self._remove(self._everything())
        self._apply(self._wanted)

    def remove(self, *, deadline_s: float = 120.0) -> list[str]:
        """Remove all of it, the namespace too where the run made it; return what is still there, and why.

        Raises:
            ApiError: nobody answers.
        """
        everything = find_leftovers(self._connection, self._run) if self._ours else self._everything()
        self._applied, self._wanted = (), ()
        return remove(self._connection, everything, deadline_s=deadline_s)

    def _apply(self, wanted: tuple[Manifest, ...]) -> None:
        labels = {RUN_LABEL: self._run, APP_LABEL: self._app}
        before, self._wanted = self._applied, ()  # nothing is certain until it is ready
        self._ours = ensure_namespace(self._connection, self._namespace, labels)
        self.generation += 1
        self._applied = apply_all(self._connection, wanted, ours=self._ours)
        kept = {item.path for item in self._applied}
        self._remove(self._leftover(item) for item in before if item.path not in kept)
        wait_ready(
            self._connection,
            self._app,
            self._applied,
            self._namespace,
            self._run,
            deadline_s=self._deadline_s,
            nodes=self._nodes,
        )
        self._wanted = wanted

    def _is_ready(self) -> bool:
        """Whether all that was applied is there, as it was wished for and ready: one request per kind."""
        selector = f"{RUN_LABEL}={self._run}"
        by_path: dict[str, list[Applied]] = {}
        for item in self._applied:
            by_path.setdefault(item.resource.path(item.manifest.namespace), []).append(item)
        for path, items in by_path.items():
            listed = self._connection.get(path, labelSelector=selector)["items"]
            found = {one["metadata"]["uid"]: {"kind": items[0].manifest.kind, **one} for one in listed}
            for item in items:
                now = found.get(item.uid)
                if now is None or now["metadata"].get("generation", 0) != item.generation or lacking(now):
                    return False
        return True

    def _everything(self) -> list[Leftover]:
        """Return all of the application that the run made, also what a deployment made before it failed.

        Its namespace, and what disturbs or drives it, are not of it.
        """
        inside = find_leftovers(self._connection, self._run, self._namespace)
        anywhere = find_leftovers(self._connection, self._run)
        found = inside + [one for one in anywhere if not one.resource.namespaced and one.resource.kind != "Namespace"]
        return [one for one in found if one.role not in (INTERFERENCE, LOAD)]

    def _remove(self, leftovers: Iterable[Leftover]) -> None:
        problems = remove(self._connection, leftovers, deadline_s=self._deadline_s)
        if problems:
            raise DeploymentError(f"app {self._app!r}", f"cannot be replaced: {'; '.join(problems)}")

    def _leftover(self, item: Applied) -> Leftover:
        return Leftover(self._run, item.resource, item.manifest.namespace, item.manifest.name, item.uid)
