"""The hotel application: each test is an experiment, each of its cases one load run."""

from collections.abc import Callable

import pytest

from pytest_aefm import Trial


@pytest.mark.aefm("hotel.yaml")
def test_search(aefm_run: Callable[..., Trial]) -> None:
    """Searching stays fast and answers, with and without a neighbour that wants the CPU."""
    aefm_run()


@pytest.mark.aefm("hotel.yaml", script="hotel/recommendation.lua", rate=40, rounds=1)
def test_recommendation(aefm_run: Callable[..., Trial]) -> None:
    """So do recommendations."""
    aefm_run()


@pytest.mark.aefm("hotel.yaml", script="hotel/login.lua", rate=40, rounds=1)
def test_login(aefm_run: Callable[..., Trial]) -> None:
    """So do logins."""
    aefm_run()


@pytest.mark.aefm("hotel.yaml", script="hotel/reserve.lua", rate=40, rounds=1)
def test_reserve(aefm_run: Callable[..., Trial]) -> None:
    """So do reservations, which change the application's data: each case finds what those before it left."""
    aefm_run()


@pytest.mark.aefm("hotel.yaml", script="hotel/mixed-workload_type_1.lua", rate=40, rounds=1)
def test_mixed_workload(aefm_run: Callable[..., Trial]) -> None:
    """So does what DeathStarBench mixes: mostly searches and recommendations, now and then a login or a reservation."""
    aefm_run()
