"""The case of a test: which of pytest's items are ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_aefm.errors import ConfigurationError
    from pytest_aefm.model import Case

__all__ = ["case_of", "unheard", "unmarked", "with_cases"]


def case_of(item: pytest.Item) -> Case | None:
    """Return the case that a test was parametrized with, or None."""
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("aefm_case") if callspec is not None else None


def with_cases(items: Iterable[pytest.Item]) -> Iterator[tuple[pytest.Item, Case]]:
    """Yield those of the tests that have a case, each with it."""
    for item in items:
        case = case_of(item)
        if case is not None:
            yield item, case


def unmarked(where: str, fixture: str) -> ConfigurationError:
    """Return what is wrong with a test that uses a fixture of cases and has none."""
    from pytest_aefm.errors import ConfigurationError

    return ConfigurationError(where, f"uses {fixture} and has no marker 'aefm'", None, "add @pytest.mark.aefm(...)")


def unheard(item: pytest.Item) -> str:
    """Return what is wrong with a test whose marker has no effect; empty where there is none, or it has."""
    callspec = getattr(item, "callspec", None)
    if any(getattr(mark, "name", "") == "aefm" for mark in getattr(callspec, "marks", ())):
        return f"{item.nodeid}: the marker 'aefm' has no effect in pytest.param(); mark the test, and use its factors"
    if isinstance(item, pytest.Function) and case_of(item) is None and item.get_closest_marker("aefm") is not None:
        return f"{item.nodeid}: the marker 'aefm' has no effect on a method of unittest.TestCase; write a test function"
    return ""
