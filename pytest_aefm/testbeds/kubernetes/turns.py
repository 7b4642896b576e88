"""A cluster is reached, and used in turns: its lease is taken before anything, and what dead runs left goes first."""

from __future__ import annotations

from collections.abc import Callable

from pytest_aefm.errors import ConfigurationError, DeploymentError
from pytest_aefm.options import ClusterOptions
from pytest_aefm.testbeds.kubernetes.connection import ApiError, Connection, connect
from pytest_aefm.testbeds.kubernetes.ownership import ClusterLease
from pytest_aefm.testbeds.kubernetes.removing import made_by, remove

__all__ = ["Turn", "reach"]

_REACH_S = 8.0
_GOING_S = 60.0


def reach(options: ClusterOptions) -> Connection:
    """Connect to the cluster that was asked for, and see that it answers.

    Raises:
        ConfigurationError: the client is not installed, there is no such file or context, or nobody answers there.
    """
    with connect(options.kubeconfig, options.context, timeout_s=_REACH_S / 2, patience_s=_REACH_S) as trial:
        try:
            trial.get("/version")
        except ApiError as error:
            hint = "see kubectl cluster-info; --aefm-context and --aefm-kubeconfig choose another"
            raise ConfigurationError(trial.name, f"cannot be reached: {error.what}", "an API server", hint) from error
    return connect(options.kubeconfig, options.context)


class Turn:
    """One run's right to a cluster, from :meth:`acquire` to :meth:`release`; others wait or are refused meanwhile."""

    def __init__(self, connection: Connection, options: ClusterOptions, run: str) -> None:
        self._connection, self._options = connection, options
        self._lease = ClusterLease(connection, options.lease_home, run=run)
        self._refused: DeploymentError | None = None

    @property
    def lost(self) -> str | None:
        """Why the cluster is ours no more; None while it is."""
        return self._lease.lost

    def acquire(self, wait_s: float, tell: Callable[[str], None] = lambda _: None) -> None:
        """Take the cluster; remove what runs that died left there.

        Raises:
            DeploymentError: another run uses it and did not leave within ``wait_s`` seconds, or what a dead run left
                cannot be removed.
        """
        if self._refused is not None:
            raise self._refused
        self._lease.acquire(wait_s, tell)
        if not self._lease.inherited:
            return
        problems: list[str] = []
        for run in self._lease.inherited:
            tell(f"what run {run} left to be gone")
            left = made_by(self._connection, run, self._options.namespace)
            problems += remove(self._connection, left, deadline_s=_GOING_S)
        if problems:
            what = f"a dead run left what cannot be removed: {'; '.join(problems)}"
            self._refused = DeploymentError(self._connection.name, what, None, "remove it by hand, or see aefm clean")
            raise self._refused
        self._lease.settled()

    def require(self) -> None:
        """Make sure that the cluster is ours.

        Raises:
            DeploymentError: it is not, any more.
        """
        if not self._lease.held:
            self.acquire(self._options.wait_s)
        elif self.lost is not None:
            what = f"is this run's no more: {self.lost}"
            raise DeploymentError(f"the lease of {self._connection.name}", what, None, "run it again")

    def release(self, *, unfinished: bool = False) -> None:
        """Leave the cluster to the next run, which removes what is ``unfinished``.

        Raises:
            ApiError: nobody answers.
        """
        if self._lease.held:
            self._lease.release(unfinished=unfinished)
