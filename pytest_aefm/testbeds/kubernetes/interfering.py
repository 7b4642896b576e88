"""Interference by hand, ``aefm interfere``: with the same turns, refusals, proof and dead-man switch as in a run."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from pytest_aefm.errors import AefmError, ConfigurationError, InterferenceError
from pytest_aefm.interference import asked_for
from pytest_aefm.model import Dose, InterferenceSpec, Window
from pytest_aefm.options import ClusterOptions
from pytest_aefm.testbeds.kubernetes.applying import ensure_namespace
from pytest_aefm.testbeds.kubernetes.cluster import TESTBED, cluster_nodes, named
from pytest_aefm.testbeds.kubernetes.connection import Connection
from pytest_aefm.testbeds.kubernetes.deadman import DeadMan
from pytest_aefm.testbeds.kubernetes.edits import APP_LABEL, RUN_LABEL
from pytest_aefm.testbeds.kubernetes.manifests import INTERFERENCE, ROLE_LABEL
from pytest_aefm.testbeds.kubernetes.removing import find_leftovers, remove
from pytest_aefm.testbeds.kubernetes.stressing import PodStressors, StressOptions
from pytest_aefm.testbeds.kubernetes.turns import Turn, reach

__all__ = ["interfere"]

_LOOK_S = 0.5
_REMOVE_S = 60.0

Tell = Callable[[str], None]


def interfere(
    options: ClusterOptions, specs: Sequence[InterferenceSpec], nodes: Sequence[str], seconds: float, tell: Tell
) -> tuple[Dose, ...]:
    """Disturb nodes for some seconds, or until Ctrl-C or SIGTERM; return what was proven. Nothing is left behind.

    Without ``nodes`` those that carry ``aefm.dev/testbed=true``; ``tell`` is told what goes on.

    Raises:
        ConfigurationError: a disturbance is none, nothing is asked for, or the image is not known.
        InterferenceError: a node must not be disturbed, it did not start, or it ended early.
        DeploymentError: another run uses the cluster; names it. Or something cannot be removed.
    """
    active = asked_for(specs)
    if not active:
        raise ConfigurationError("interference", "nothing is asked for", None, "such as --cpu 2")
    if options.stress_image is None:
        raise ConfigurationError("interference", "the image of its pods is not known", None, "name it with --image")
    if options.namespace is not None and not options.allow_shared:
        what = "a namespace that is given does not keep other runs off the nodes"
        raise ConfigurationError("interference", what, None, "--allow-shared says that this is known")
    run = f"interfere-{secrets.token_hex(4)}"
    with _signals(), reach(options) as connection:
        turn = Turn(connection, options, run)
        turn.acquire(options.wait_s, tell)
        problems: list[str] = []
        try:
            doses = _disturb(connection, options, turn, run, active, nodes, seconds, tell)
        except KeyboardInterrupt:
            raise InterferenceError("interference", "interrupted before it was at work") from None
        finally:
            with _deaf():
                problems += _remove(connection, run, options.namespace)
                turn.release(unfinished=bool(problems))
        if problems:
            raise InterferenceError("interference", f"cannot be removed: {'; '.join(problems)}")
    return doses


def _disturb(
    connection: Connection,
    options: ClusterOptions,
    turn: Turn,
    run: str,
    specs: Sequence[InterferenceSpec],
    nodes: Sequence[str],
    seconds: float,
    tell: Tell,
) -> tuple[Dose, ...]:
    chosen = tuple(nodes) or named(cluster_nodes(connection), TESTBED)
    namespace, dead_man = options.namespace or f"aefm-{run}", DeadMan(connection, lost=lambda: turn.lost)
    assert options.stress_image is not None, "checked"
    stressors = PodStressors(
        connection,
        dead_man,
        namespace=namespace,
        run=run,
        nodes=chosen,
        options=StressOptions(options.stress_image),
    )
    try:
        stressors.check(specs, allow_shared=options.allow_shared)
        labels = {RUN_LABEL: run, ROLE_LABEL: INTERFERENCE, APP_LABEL: INTERFERENCE}
        ensure_namespace(connection, namespace, {**labels, "pod-security.kubernetes.io/enforce": "restricted"})
        stressors.converge(specs)
        kinds = ", ".join(f"{spec.count} x {spec.kind}" for spec in specs)
        tell(f"at work on {', '.join(chosen)}: {kinds}, for {seconds:g} s")
        return _watched(stressors, dead_man, turn, seconds, tell)
    finally:
        with _deaf():
            stressors.stop()  # what sticks is found by its label once more
            dead_man.close()


def _watched(stressors: PodStressors, dead_man: DeadMan, turn: Turn, seconds: float, tell: Tell) -> tuple[Dose, ...]:
    """Let time pass, and return what was delivered in it.

    Raises:
        InterferenceError: the cluster is another's by now, or the stressors cannot be kept.
    """
    before, began_wall_s, began = stressors.read(), time.time(), time.monotonic()
    try:
        while (left := began + seconds - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_S))
            trouble = [*([turn.lost] if turn.lost else []), *dead_man.trouble]
            if trouble:
                raise InterferenceError("interference", f"ended early: {trouble[0]}")
    except KeyboardInterrupt:
        tell(f"interrupted after {time.monotonic() - began:.0f} s")
    window = Window(began_wall_s, began, time.monotonic() - began)
    with _deaf():
        doses, _ = stressors.prove(before, stressors.read(), window)
    return doses


def _remove(connection: Connection, run: str, namespace: str | None) -> list[str]:
    try:
        return remove(connection, find_leftovers(connection, run, namespace), deadline_s=_REMOVE_S)
    except AefmError as error:
        return [str(error)]


@contextmanager
def _signals() -> Iterator[None]:
    """Take SIGTERM for Ctrl-C."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _deaf() -> Iterator[None]:
    """Finish what was begun: a second Ctrl-C or SIGTERM does not leave half of it."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            with suppress(TypeError):  # a handler that was not set from Python
                signal.signal(number, handler)
