"""What all parts of a run on a cluster share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_aefm.errors import AefmError
from pytest_aefm.options import ClusterOptions
from pytest_aefm.supervisor import Supervisor
from pytest_aefm.testbeds.kubernetes.connection import Connection
from pytest_aefm.testbeds.kubernetes.deadman import DeadMan

__all__ = ["Place", "attempt"]


@dataclass(frozen=True)
class Place:
    """What all stages of a run share. ``host`` owns what runs on this machine, whose files go to ``folder``.

    ``lost`` says why the cluster is not ours any more, None while it is.
    """

    connection: Connection
    dead_man: DeadMan
    options: ClusterOptions
    run: str
    folder: Path
    host: Callable[[], Supervisor]
    iterations_per_us: Callable[[], float]
    ready_timeout_s: float
    lost: Callable[[], str | None]


def attempt(action: Callable[[], Any]) -> list[str]:
    """Return what an action could not do: whatever fails must not hide what the session has to say."""
    try:
        return list(action() or ())
    except Exception as error:
        return [str(error) if isinstance(error, AefmError) else f"kubernetes testbed: {type(error).__name__}: {error}"]
