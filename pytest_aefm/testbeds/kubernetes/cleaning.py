"""Remove what runs left that do not live any more; never anything of one that does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_aefm.errors import DeploymentError
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection
from pytest_aefm.testbeds.kubernetes.owners import Owner, free, lease_path, living, owners
from pytest_aefm.testbeds.kubernetes.removing import Leftover, find_leftovers, remove

__all__ = ["Cleaned", "clean"]


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was ``found`` of runs that do not live, what of it ``sticks`` and why, and whose objects are ``spared``."""

    found: tuple[Leftover, ...]
    sticks: tuple[str, ...]
    spared: tuple[Owner, ...]


def clean(
    connection: Connection,
    run: str | None = None,
    namespace: str | None = None,
    *,
    dry_run: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    deadline_s: float = 120.0,
) -> Cleaned:
    """Remove what runs left: of one or of all, in a namespace or everywhere; with ``dry_run`` only look for it.

    Where a run holds a Lease it takes up to the Lease's duration, mostly 30 s, to see whether it lives.

    Raises:
        DeploymentError: ``run`` lives.
        ApiError: it is not known who lives, for Leases may not be listed; or nobody answers.
    """
    left = find_leftovers(connection, run, namespace)
    runs = {run} if run is not None else {item.run for item in left}
    everything = run is None and namespace is None
    held = [owner for owner in _owners(connection, namespace) if everything or owner.run in runs]
    alive = living(connection, held, tell)
    if run is not None and alive:
        raise DeploymentError(f"run {run}", f"lives: {alive[0]}", None, "end it first")
    spared = {owner.run for owner in alive}
    found = [item for item in left if item.run not in spared]
    if dry_run:
        return Cleaned(tuple(found), (), tuple(alive))
    sticks = remove(connection, found, deadline_s=deadline_s)
    if not sticks:
        for owner in held:
            if owner.run not in spared:
                free(connection, owner, (one for one in owner.unfinished if run is not None))
    return Cleaned(tuple(found), tuple(sticks), tuple(alive))


def _owners(connection: Connection, namespace: str | None) -> list[Owner]:
    """Return who holds a Lease anywhere; of a namespace's account only that namespace's can be known.

    Raises:
        ApiError: they may not be listed, or no Lease lies in the namespace: then nobody knows who lives.
    """
    try:
        return owners(connection)
    except ApiError as error:
        if error.status != 403:
            raise
        if namespace is None:
            error.args = (f"{error}; name a namespace with --namespace",)
            raise
        try:
            connection.get(lease_path(namespace))
        except ApiError as absent:
            if absent.status != 404:
                raise
            told = f"{error}; no Lease lies in {namespace!r}: whoever lives there holds one elsewhere"
            error.args = (told,)
            raise error from None
    return owners(connection, namespace)
