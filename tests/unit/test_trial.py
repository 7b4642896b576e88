"""What ends a trial early reaches the one who waits for it; what collectors answer can be told."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from pytest_aefm.collectors import Observations, checked
from pytest_aefm.errors import CollectorError
from pytest_aefm.load import LoadRun
from pytest_aefm.model import LoadSpec, Window, as_json
from pytest_aefm.trial import _drive


class _Stubborn:
    """A load run that cannot be stopped."""

    def __init__(self) -> None:
        self.window = Window(time.time() + 60, time.monotonic() + 60, 1.0)
        self.asked_to_stop = False

    def ended(self) -> bool:
        """Let the user interrupt while the run lasts."""
        raise KeyboardInterrupt

    def stop(self) -> None:
        """Fail to end."""
        self.asked_to_stop = True
        raise TimeoutError("it still runs after 5.5 s")


def test_an_interrupt_is_not_lost_when_the_load_will_not_stop() -> None:
    """Ctrl-C and SIGTERM end the session, not just the case, also where the generator does not heed them."""
    run = _Stubborn()
    with pytest.raises(KeyboardInterrupt):
        _drive(cast(LoadRun, run), cast(Any, None), LoadSpec(script="x.lua", rate_rps=1.0, duration_s=1.0))
    assert run.asked_to_stop


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Observations(details={"file": Path("x")}), "weather: its answer is no JSON: Object of type Posix"),
        (Observations(metrics=cast(Any, {"sky": "clear"})), "weather: a metric is of type str; expected a number"),
        ({"sky": "clear"}, "weather: its answer is of type dict; expected Observations"),
    ],
)
def test_an_answer_that_no_report_can_hold_is_the_collectors_failure(answer: Any, message: str) -> None:
    """It is found where it comes from, not when the trial is told."""
    with pytest.raises(CollectorError, match=message):
        checked("weather", answer)


def test_numpys_values_are_numbers() -> None:
    """Scalars and arrays of numpy may be answered; a report has plain numbers."""
    seen = checked(
        "weather",
        Observations(metrics=cast(Any, {"sky": np.float32(0.5)}), details={"n": np.int64(3), "of": np.ones(2)}),
    )
    assert {"n": 3, "of": [1.0, 1.0]} == as_json(seen.details)
