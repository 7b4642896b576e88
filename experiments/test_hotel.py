"""The hotel application: each test is an experiment, each of its cases one load run."""

from collections.abc import Callable

import pytest

from pytest_aefm import Trial


@pytest.mark.aefm("hotel.yaml")
def test_search(aefm_run: Callable[..., Trial]) -> None:
    """Searching stays fast and answers, with and without a neighbour that wants the CPU."""
    aefm_run()
