"""Faults of services as interference: what a level means, how an experiment says it, when the dose is proven."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_aefm.errors import ConfigurationError
from pytest_aefm.experiment import load
from pytest_aefm.interference import Host, check, plan
from pytest_aefm.mesh.resolved import FaultsConfig, FaultsReport
from pytest_aefm.model import InterferenceSpec
from pytest_aefm.testbeds.faults import FaultReading, prove_faults

EXPERIMENT = "app: hotel\nscript: hotel/search.lua\nrate: 40\nduration: 5s\n"
SLOW = InterferenceSpec("fault", 2, service="rate", delay_ms=30.0)
FAILING = InterferenceSpec("fault", 1, service="rate", fail_rate=0.1)


def disturbances(tmp_path: Path, text: str) -> list[tuple[InterferenceSpec, ...]]:
    """Return the disturbances of an experiment's cases."""
    file = tmp_path / "slow.yaml"
    file.write_text(EXPERIMENT + text)
    return [case.interference for case in load(file).cases(seed=1)]


def reading(spec: InterferenceSpec, faults: FaultsConfig, requests: int, disturbed: int, ms: float) -> FaultReading:
    """Return what one replica says."""
    report = FaultsReport(faults=faults, requests=requests, disturbed=disturbed, delayed_ms=ms)
    return FaultReading(spec, {"rate": report})


def test_a_fault_alone_is_its_level_one(tmp_path: Path) -> None:
    """`fault: {service: rate, delay_ms: 30}` disturbs every case."""
    (one,) = disturbances(tmp_path, "fault: {service: rate, delay_ms: 30}\n")
    assert (InterferenceSpec("fault", 1, service="rate", delay_ms=30.0),) == one


def test_levels_of_a_fault_are_a_factor(tmp_path: Path) -> None:
    """Its size stands where that of all kinds stands."""
    text = "fault: [0, 2]\ninterference: {fault: {service: rate, delay_ms: 30, fail_rate: 0.01}}\n"
    two = InterferenceSpec("fault", 2, service="rate", delay_ms=30.0, fail_rate=0.01)
    assert {(), (two,)} == set(disturbances(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fault: {delay_ms: 30}", "slow.yaml:5: fault.service: the key is missing"),
        ("fault: {service: rate, delay: 30}", "slow.yaml:5: fault.delay: unknown key; did you mean 'delay_ms'?"),
        ("fault: {service: rate, delay_ms: soon}", "slow.yaml:5: fault.delay_ms: expected a positive number of millis"),
        ("fault: {service: rate, fail_rate: 2}", "slow.yaml:5: fault.fail_rate: expected a share from 0 to 1"),
        ("fault: some", "slow.yaml:5: fault: expected a whole number from 0 to 10000, got 'some'"),
    ],
)
def test_a_wrong_fault_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """With file, line and path."""
    with pytest.raises(ConfigurationError) as caught:
        disturbances(tmp_path, text + "\n")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (InterferenceSpec("fault", 1, delay_ms=1.0), "service is missing"),
        (InterferenceSpec("fault", 1, service="rate"), "it does nothing; expected delay_ms or fail_rate"),
        (InterferenceSpec("fault", 3, service="rate", fail_rate=0.5), "fail_rate 3 x 0.5"),
    ],
)
def test_a_fault_that_is_none_is_refused(spec: InterferenceSpec, message: str) -> None:
    """Before anything is deployed."""
    with pytest.raises(ConfigurationError, match=message):
        check(spec)


def test_a_fault_is_made_by_no_program() -> None:
    """The services make it themselves."""
    assert () == plan([SLOW], Host(), 60.0)


def test_a_delay_is_proven_by_its_sum() -> None:
    """Twice 30 ms for each of 100 requests."""
    in_force = FaultsConfig(delay_ms=60.0)
    before, after = reading(SLOW, in_force, 10, 10, 600.0), reading(SLOW, in_force, 110, 110, 6600.0)
    (dose,) = prove_faults([before], [after])
    assert (True, 1.0, 2, "fault of rate: 100 of 100 requests, 60 ms each") == (
        dose.ok,
        dose.share,
        dose.count,
        dose.message,
    )


def test_failures_are_proven_by_their_number_as_chance_has_it() -> None:
    """Of 1,000 requests 10 % fail: 85 are as many as chance gives, 40 are not."""
    in_force = FaultsConfig(fail_rate=0.1)
    before = reading(FAILING, in_force, 0, 0, 0.0)
    doses = [prove_faults([before], [reading(FAILING, in_force, 1000, count, 0.0)])[0] for count in (85, 40)]
    assert [(True, 1.0), (False, 0.4)] == [(dose.ok, dose.share) for dose in doses]


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (reading(SLOW, FaultsConfig(), 110, 110, 6000.0), "fault of rate: rate was not disturbed"),
        (reading(SLOW, FaultsConfig(delay_ms=60.0), 110, 60, 3600.0), "55% of the dose was delivered, at least 90%"),
        (reading(SLOW, FaultsConfig(delay_ms=60.0), 0, 0, 0.0), "no request reached it in the window"),
        (FaultReading(SLOW, {"rate": None}), "rate does not tell"),
    ],
)
def test_a_dose_that_was_not_delivered_is_told(after: FaultReading, message: str) -> None:
    """It ended, came short, met nobody, or nobody knows."""
    (dose,) = prove_faults([reading(SLOW, FaultsConfig(delay_ms=60.0), 0, 0, 0.0)], [after])
    assert not dose.ok
    assert message in dose.message
