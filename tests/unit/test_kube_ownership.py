"""Who holds a cluster, and whether it lives: told from what is seen, on our own clock alone."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from pytest_aefm.testbeds.kubernetes.owners import Owner, Pulse, this_process, whoami

LEASE = {
    "metadata": {
        "namespace": "aefm-system",
        "resourceVersion": "7",
        "annotations": {
            "aefm.dev/who": "ada@lab pid 12",
            "aefm.dev/since": "2026-11-22 10:00:00 UTC",
            "aefm.dev/token": "t1",
            "aefm.dev/unfinished": "r1,r2",
        },
    },
    "spec": {"holderIdentity": "r3", "renewTime": "2026-11-22T10:00:10.000000Z", "leaseDurationSeconds": 30},
}
OWNER = Owner.read(LEASE)


def renewed(owner: Owner, times: int) -> Owner:
    """Return the owner after a renewal."""
    return replace(owner, renewed=f"renewal {times}")


def test_an_owner_is_read() -> None:
    """Run, person and time are what a message says; the runs before it that left something are known."""
    assert "run r3 (ada@lab pid 12) since 2026-11-22 10:00:00 UTC" == str(OWNER)
    assert (30.0, ("r1", "r2")) == (OWNER.duration_s, OWNER.unfinished)


def test_a_lease_that_others_made_is_read() -> None:
    """Without our annotations it is held all the same; a lease without a holder is nobody's."""
    bare = {"metadata": {"namespace": "x", "resourceVersion": "1"}, "spec": {"holderIdentity": "someone"}}
    assert "run someone (unknown) since an unknown time" == str(Owner.read(bare))
    assert "" == Owner.read({"metadata": bare["metadata"]}).run


def test_a_renewal_that_changes_is_life() -> None:
    """Whatever time it has in it: the clocks of two machines are not compared."""
    pulse = Pulse(OWNER, 100.0)
    assert pulse.see(OWNER, 101.0) is None
    assert pulse.see(replace(OWNER, renewed="1999-01-01T00:00:00Z"), 102.0) is True
    assert pulse.see(replace(OWNER, renewed="1999-01-01T00:00:00Z"), 103.0) is True


def test_silence_for_its_duration_is_death() -> None:
    """Looked at all the time; one that lived may die, and its successor lives."""
    pulse = Pulse(OWNER, 0.0)
    assert pulse.see(renewed(OWNER, 1), 1.0) is True
    states = [pulse.see(renewed(OWNER, 1), 1.0 + second) for second in range(1, 33)]
    assert [True] * 30 + [False] * 2 == states
    assert pulse.see(replace(OWNER, token="t2"), 40.0) is True


def test_time_in_which_nobody_answered_is_no_silence() -> None:
    """An owner cannot renew while the server is away, or while we were stopped."""
    pulse = Pulse(OWNER, 0.0)
    assert pulse.see(OWNER, 3600.0) is None
    assert pulse.see(OWNER, 7200.0) is None


def test_a_process_of_this_machine_that_ended_is_dead_at_once() -> None:
    """Nobody waits for the Lease of a run that was killed here a second ago."""
    code = "from pytest_aefm.testbeds.kubernetes.owners import this_process; print(this_process())"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert Pulse(OWNER, 0.0).see(replace(OWNER, process=ended), 0.1) is False
    assert Pulse(OWNER, 0.0).see(replace(OWNER, process=this_process()), 0.1) is None


@pytest.mark.parametrize("process", ["", "no-such-boot/pid:[1]/1", "1", "a/b/c"])
def test_a_process_elsewhere_is_not_known(process: str) -> None:
    """The same number means nothing on another machine, after a restart, or in another container."""
    assert Pulse(OWNER, 0.0).see(replace(OWNER, process=process), 0.1) is None


def test_who_we_are_has_user_host_and_process() -> None:
    """It is what another user is told."""
    assert whoami().endswith(f" pid {os.getpid()}")
    assert "@" in whoami()
