"""YAML files as tests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from pytest_aefm.model import Trial

__all__ = ["ExperimentFile", "is_experiment"]

_TELLING = re.compile(r"^(?:\{.*?)?[\"']?(?:app|script|rate|slos|test_cases)[\"']?\s*:", re.MULTILINE)


class ExperimentFile(pytest.Module):
    """A YAML file as a module with one test, ``test_<stem>(aefm_run)``: what holds for tests holds for it."""

    def _getobj(self) -> ModuleType:
        stem = re.sub(r"\W", "_", self.path.name.partition(".")[0])

        def test(aefm_run: Callable[..., Trial]) -> None:
            aefm_run()

        test.__name__ = test.__qualname__ = f"test_{stem}"
        test.__doc__ = f"The experiment of {self.path.name}."
        module = ModuleType(stem)
        module.__file__ = str(self.path)
        setattr(module, test.__name__, pytest.mark.aefm(str(self.path))(test))
        return module

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Yield the cases; where they lie is the file, not here."""
        for item in super().collect():
            if isinstance(item, pytest.Function):
                item.reportinfo = partial(_place, self.path, item.name)  # type: ignore[method-assign] # of this item
            yield item

    def funcnamefilter(self, name: str) -> bool:
        """Accept the test whatever ``python_functions`` says."""
        return name.startswith("test_")


def _place(path: Path, name: str) -> tuple[Path, int, str]:
    return path, 0, name


def is_experiment(path: Path) -> bool:
    """Return whether a YAML file, well-formed or not, has a key at its top that every experiment has one of."""
    return _TELLING.search(path.read_text(encoding="utf-8", errors="replace")) is not None
