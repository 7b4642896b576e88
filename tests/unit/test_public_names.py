"""The package's public face."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import pytest_aefm
from pytest_aefm import errors


def test_all_is_sorted_and_true() -> None:
    """Every name in __all__ can be had, and the list is sorted."""
    assert sorted(pytest_aefm.__all__) == pytest_aefm.__all__
    for name in pytest_aefm.__all__:
        assert getattr(pytest_aefm, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    """A name that is not there says so."""
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = pytest_aefm.nonsense


@pytest.mark.parametrize(
    "name", [m.name for m in pkgutil.walk_packages(pytest_aefm.__path__, "pytest_aefm.") if "__main__" not in m.name]
)
def test_module_exports_what_it_says(name: str) -> None:
    """Every module's __all__ names things that exist."""
    module = importlib.import_module(name)
    missing = [each for each in getattr(module, "__all__", []) if not hasattr(module, each)]
    assert [] == missing


def test_exception_tree_is_drawn_in_the_docstring() -> None:
    """The tree in the docstring holds every exception of the module."""
    assert errors.__doc__ is not None
    for name in errors.__all__:
        if name != "did_you_mean":
            assert name in errors.__doc__


def test_message_reads_subject_what_expected_next_step() -> None:
    """An error joins its parts in the house order."""
    error = errors.ConfigurationError("hotel.yaml:3", "rate: -1", "a positive number", "mend it")
    assert "hotel.yaml:3: rate: -1; expected a positive number; mend it" == str(error)
