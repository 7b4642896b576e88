"""One cluster, one measurement: a Lease that its owner renews, and that is taken over from an owner that died."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pytest_aefm.errors import DeploymentError
from pytest_aefm.testbeds.kubernetes.applying import MANAGER
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection
from pytest_aefm.testbeds.kubernetes.manifests import ROLE_LABEL
from pytest_aefm.testbeds.kubernetes.owners import (
    LEASE_NAME,
    PROCESS,
    SINCE,
    TOKEN,
    UNFINISHED,
    WHO,
    Owner,
    Pulse,
    free,
    lease_path,
    this_process,
    whoami,
)

__all__ = ["ClusterLease"]

_LABELS = {"app.kubernetes.io/managed-by": MANAGER, ROLE_LABEL: "lease"}
"""No run's label: what carries that is removed with the run."""

_POLL_S = 0.5
_ROLES = "aefm rbac prints the role that a run needs, aefm doctor says what of it is missing"


class ClusterLease:
    """The right to measure on a cluster; ``holder`` says to others who has it.

    ``inherited`` are runs that held it before and left without having tidied up, until ``settled`` says it was done.
    """

    def __init__(
        self, connection: Connection, namespace: str, *, run: str, holder: str | None = None, duration_s: float = 30.0
    ) -> None:
        self._connection, self._namespace, self._run = connection, namespace, run
        self._who, self._duration_s = holder or whoami(), duration_s
        self._path, self._token = lease_path(namespace), uuid.uuid4().hex
        self._owner: Owner | None = None
        self._renewed_s, self._trouble, self._taken = 0.0, "", ""
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self.inherited: tuple[str, ...] = ()

    @property
    def held(self) -> bool:
        """Whether it was acquired and not released, be it lost or not."""
        return self._owner is not None

    @property
    def lost(self) -> str | None:
        """Why it is ours no more; None while it is, or where it was never acquired."""
        if self._taken or not self.held:
            return self._taken or None
        silent_s = time.monotonic() - self._renewed_s
        if silent_s > self._duration_s:
            return f"not renewed for {silent_s:.0f} s: {self._trouble or 'no answer'}"
        return None

    def acquire(self, wait_s: float, tell: Callable[[str], None] = lambda _: None) -> None:
        """Take the Lease, and renew it from now on; to be sure that an owner is dead takes as long as its duration.

        ``tell`` is told whom it waits for.

        Raises:
            DeploymentError: a living owner did not leave within ``wait_s`` seconds; names it.
            ApiError: the Lease can neither be read nor made.
        """
        if self.held:
            return
        try:
            self._wait_and_take(wait_s, tell)
        except ApiError as error:
            if error.status != 403 or "terminat" in error.what:
                raise
            raise ApiError(error.subject, error.what, None, _ROLES, status=403, body=error.body) from None
        self._taken, self._trouble = "", ""
        self._stopped.clear()
        self._thread = threading.Thread(target=self._keep, name="cluster lease", daemon=True)
        self._thread.start()

    def settled(self) -> None:
        """Note that nothing of ``inherited`` is left."""
        self.inherited = ()

    def release(self, *, unfinished: bool = False) -> None:
        """Give it to the next one, who is told what runs are unfinished.

        Raises:
            ApiError: nobody answers; it ends by itself then.
        """
        if self._owner is None or self._thread is None:
            return
        self._stopped.set()
        self._thread.join()
        owner, self._owner = self._owner, None
        if not self._taken:
            free(self._connection, owner, [*self.inherited, *([self._run] if unfinished else [])])

    def _wait_and_take(self, wait_s: float, tell: Callable[[str], None]) -> None:
        deadline = time.monotonic() + wait_s
        pulse: Pulse | None = None
        told = ""
        while True:
            found, now_s = self._read(), time.monotonic()
            alive: bool | None = False
            if found is not None and found.run and found.token != self._token:
                pulse = pulse or Pulse(found, now_s)
                alive = pulse.see(found, now_s)
            if alive is False and self._take(found):
                return
            if found is None or alive is False:
                continue
            if alive and now_s >= deadline:
                raise self._in_use(found, wait_s)
            what = "waiting for its end" if alive else "looking whether it lives"
            if (text := f"{self._connection.name}: in use by {found}; {what}") != told:
                tell(text)
                told = text
            time.sleep(_POLL_S)

    def _read(self) -> Owner | None:
        try:
            return Owner.read(self._connection.get(self._path))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def _take(self, found: Owner | None) -> bool:
        """Write our name into the Lease; return False where somebody was faster, or nobody answered."""
        before = () if found is None else (*found.unfinished, *([found.run] if found.run else []))
        inherited = tuple(dict.fromkeys(run for run in before if run != self._run))
        began_s = time.monotonic()
        try:
            if found is None:
                body = self._create(self._wish(inherited))
            else:
                wish = self._wish(inherited)
                wish["metadata"]["resourceVersion"] = found.version
                body = self._connection.patch(self._path, wish)
        except ApiError as error:
            if error.status in (0, 409) or (found is not None and error.status == 404):
                return False
            raise
        self.inherited, self._owner, self._renewed_s = inherited, Owner.read(body), began_s
        return True

    def _wish(self, inherited: tuple[str, ...]) -> dict[str, Any]:
        now = datetime.now(UTC)
        notes = {
            WHO: self._who,
            SINCE: now.strftime("%Y-%m-%d %H:%M:%S UTC"),
            TOKEN: self._token,
            PROCESS: this_process(),
            UNFINISHED: ",".join(inherited),
        }
        spec = {
            "holderIdentity": self._run,
            "leaseDurationSeconds": max(1, round(self._duration_s)),
            "acquireTime": _micro(now),
            "renewTime": _micro(now),
        }
        return {"metadata": {"name": LEASE_NAME, "labels": _LABELS, "annotations": notes}, "spec": spec}

    def _create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create the Lease, and its namespace where that is missing."""
        path = self._path.rpartition("/")[0]
        try:
            return self._connection.create(path, body)
        except ApiError as error:
            if error.status != 404:
                raise
        home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self._namespace, "labels": _LABELS}}
        self._connection.apply(f"/api/v1/namespaces/{self._namespace}", home, MANAGER)
        return self._connection.create(path, body)

    def _keep(self) -> None:
        while not self._stopped.wait(self._duration_s / 3) and not self._taken:
            try:
                self._renew()
            except ApiError as error:
                self._trouble = str(error)

    def _renew(self) -> None:
        """Renew; where the version is not the one that we wrote, look whose name is in it."""
        assert self._owner is not None
        while not self._stopped.is_set():
            began_s = time.monotonic()
            wish = {"metadata": {"resourceVersion": self._owner.version}, "spec": {"renewTime": _micro()}}
            try:
                body = self._connection.patch(self._path, wish)
            except ApiError as error:
                if error.status not in (404, 409):
                    raise
            else:
                self._owner, self._renewed_s = Owner.read(body), began_s
                return
            found = self._read()
            if found is None or found.token != self._token:
                self._taken = f"taken by {found}" if found and found.run else "taken away: its Lease is nobody's"
                return
            self._owner = replace(self._owner, version=found.version)

    def _in_use(self, owner: Owner, wait_s: float) -> DeploymentError:
        expected = f"it to be free within {wait_s:g} s" if wait_s else None
        hint = "run it later, or wait for it with --aefm-wait SECONDS"
        return DeploymentError(self._connection.name, f"in use by {owner}", expected, hint)


def _micro(moment: datetime | None = None) -> str:
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
