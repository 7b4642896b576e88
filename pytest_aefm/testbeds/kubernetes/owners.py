"""Who holds the Leases of a cluster, and whether they live.

Clocks of two machines are never compared: an owner lives whose renewals are seen to change on our own clock.
"""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection

__all__ = ["LEASE_NAME", "Owner", "Pulse", "free", "lease_path", "living", "owners", "this_process", "whoami"]

LEASE_NAME = "aefm-run"
WHO, SINCE, TOKEN, PROCESS, UNFINISHED = (
    f"aefm.dev/{name}" for name in ("who", "since", "token", "process", "unfinished")
)
"""Annotations of a Lease."""

_POLL_S = 0.5
_GAP_S = 1.0
"""A longer time between two looks counts as this: while nobody answered us, the owner could not renew either."""

_UNFINISHED_AT_MOST = 50


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a Lease, as it is written there: nobody where ``run`` is empty.

    ``renewed`` changes with every renewal; ``unfinished`` are runs before it that did not tidy up.
    """

    run: str
    who: str
    since: str
    renewed: str
    duration_s: float
    namespace: str
    token: str
    process: str
    version: str
    unfinished: tuple[str, ...]

    def __str__(self) -> str:
        return f"run {self.run} ({self.who}) since {self.since}"

    @classmethod
    def read(cls, lease: dict[str, Any]) -> Owner:
        """Return the owner that is written in a Lease."""
        spec, metadata = lease.get("spec") or {}, lease["metadata"]
        notes = metadata.get("annotations") or {}
        return cls(
            run=str(spec.get("holderIdentity") or ""),
            who=notes.get(WHO, "unknown"),
            since=notes.get(SINCE) or str(spec.get("acquireTime") or "an unknown time"),
            renewed=str(spec.get("renewTime") or ""),
            duration_s=float(spec.get("leaseDurationSeconds") or 30),
            namespace=str(metadata["namespace"]),
            token=notes.get(TOKEN, ""),
            process=notes.get(PROCESS, ""),
            version=str(metadata["resourceVersion"]),
            unfinished=tuple(filter(None, notes.get(UNFINISHED, "").split(","))),
        )


class Pulse:
    """Tells a living owner from a dead one; times are of our own monotonic clock.

    ``alive`` is True once a renewal was seen to change, False once none was for the owner's duration, else None.
    """

    def __init__(self, owner: Owner, now_s: float) -> None:
        self._owner, self._looked_s, self._silent_s = owner, now_s, 0.0
        self.alive: bool | None = None

    def see(self, owner: Owner, now_s: float) -> bool | None:
        """Take in who holds the Lease now; return ``alive``."""
        gap_s, self._looked_s = min(now_s - self._looked_s, _GAP_S), now_s
        if (owner.token, owner.renewed) != (self._owner.token, self._owner.renewed):
            self._owner, self._silent_s, self.alive = owner, 0.0, True
        else:
            self._silent_s += gap_s
        if self._silent_s > owner.duration_s or _is_gone(owner.process):
            self.alive = False
        return self.alive


def lease_path(namespace: str) -> str:
    """Return the path of a namespace's Lease."""
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{LEASE_NAME}"


def owners(connection: Connection, namespace: str | None = None) -> list[Owner]:
    """Return who holds a Lease of ours, dead or alive: in one namespace, or in the whole cluster.

    Raises:
        ApiError: Leases may not be listed there.
    """
    inside = f"/namespaces/{namespace}" if namespace else ""
    path = f"/apis/coordination.k8s.io/v1{inside}/leases"
    listed = connection.get(path, fieldSelector=f"metadata.name={LEASE_NAME}")
    return [owner for lease in listed.get("items") or () if (owner := Owner.read(lease)).run]


def living(connection: Connection, found: Iterable[Owner], tell: Callable[[str], None] = lambda _: None) -> list[Owner]:
    """Return those owners that live; takes until each was seen to renew, or not to for its duration.

    ``tell`` is told whom it waits for.
    """
    unknown, alive = {owner.namespace: Pulse(owner, time.monotonic()) for owner in found}, []
    told: set[str] = set()
    while unknown:
        for namespace, pulse in list(unknown.items()):
            now = owners(connection, namespace)
            state = pulse.see(now[0], time.monotonic()) if now else False
            if state is None and namespace not in told:
                tell(f"{connection.name}: held by {now[0]}; looking whether it lives")
                told.add(namespace)
            elif state is not None:
                del unknown[namespace]
                alive += now if state else []
        time.sleep(_POLL_S if unknown else 0)
    return alive


def free(connection: Connection, owner: Owner, unfinished: Iterable[str] = ()) -> bool:
    """Give an owner's Lease to nobody, who is told what runs are unfinished; False where it changed or is gone.

    Raises:
        ApiError: it may not be changed, or nobody answers.
    """
    runs = list(dict.fromkeys(unfinished))[-_UNFINISHED_AT_MOST:]
    notes = {WHO: None, SINCE: None, TOKEN: None, PROCESS: None, UNFINISHED: ",".join(runs) or None}
    spec = {"holderIdentity": None, "acquireTime": None, "renewTime": None}
    body = {"metadata": {"resourceVersion": owner.version, "annotations": notes}, "spec": spec}
    try:
        connection.patch(lease_path(owner.namespace), body)
    except ApiError as error:
        if error.status in (404, 409):
            return False
        raise
    return True


def whoami() -> str:
    """Return user, host and process as others are told them."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} pid {os.getpid()}"


def this_process() -> str:
    """Return what tells this process from all others since this machine was started; empty where that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}/{os.getpid()}"
    except OSError:
        return ""


def _is_gone(process: str) -> bool:
    """Whether a process is certainly gone: it was among those that this one sees, and is not any more."""
    place, _, pid = process.rpartition("/")
    if not place or not pid.isdigit() or place != this_process().rpartition("/")[0]:
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is another user's
        return False
    return False
