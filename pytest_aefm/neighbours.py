"""Other plugins of pytest, as far as ours must look at them: pytest-timeout."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import pytest

from pytest_aefm.progress import duration_text

__all__ = ["warn_of_timeouts"]


def warn_of_timeouts(estimates: Sequence[tuple[pytest.Item, float]]) -> None:
    """Warn of each test function for which pytest-timeout, which is there, allows less seconds than a case needs.

    Raises:
        pytest.UsageError: warnings are errors.
    """
    longest: dict[tuple[str, float, str], float] = {}
    for item, seconds in estimates:
        limit_s, method = _limit(item)
        if 0 < limit_s < seconds:
            key = item.nodeid.partition("[")[0], limit_s, method
            longest[key] = max(seconds, longest.get(key, 0.0))
    for (test, limit_s, method), seconds in longest.items():
        end = "the test" if method == "signal" else "pytest at once, without a report"
        text = (
            f"{test}: pytest-timeout allows {limit_s:g} s, and a case takes about {duration_text(seconds)}; "
            f"expected a longer timeout: its method {method!r} ends {end}"
        )
        try:
            warnings.warn(pytest.PytestWarning(text), stacklevel=1)
        except pytest.PytestWarning:
            raise pytest.UsageError(text) from None


def _limit(item: pytest.Item) -> tuple[float, str]:
    """Return pytest-timeout's limit of a test in seconds (0: none) and its method: marker, option, environment, ini."""
    config, marker = item.config, item.get_closest_marker("timeout")
    arguments = {**dict(zip(("timeout", "method"), marker.args, strict=False)), **marker.kwargs} if marker else {}
    limit = _first(
        arguments.get("timeout"),
        config.getoption("timeout", None),
        os.environ.get("PYTEST_TIMEOUT"),
        config.getini("timeout"),
    )
    method = _first(arguments.get("method"), config.getoption("timeout_method", None), config.getini("timeout_method"))
    try:
        return float(limit or 0), str(method or "signal")
    except (TypeError, ValueError):  # pytest-timeout says so itself
        return 0.0, "signal"


def _first(*values: Any) -> Any:
    """Return the first value that was given."""
    return next((value for value in values if value not in (None, "")), None)
