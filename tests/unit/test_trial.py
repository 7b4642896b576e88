"""What ends a trial early reaches the one who waits for it."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from pytest_aefm.load import LoadRun
from pytest_aefm.model import LoadSpec, Window
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
