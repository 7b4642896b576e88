"""Settings before they make an experiment: flat, by key, each with the place where it was written.

A file in AEFM's format, a file with factors at the top level and a marker all end here, so that one can
override another key by key. Pydantic is imported only when something is read.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_aefm.errors import ConfigurationError, did_you_mean
from pytest_aefm.experiment.source import Origin, Steps, read_yaml, shorten, spell

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

__all__ = ["Key", "Setting", "Settings", "contradiction", "merge_markers", "settings_of_file", "settings_of_marker"]

Key = tuple[str, ...]
"""``("rate",)``, ``("factors", "payload")``, ``("interference", "cpu", "cpu_size")``."""

MERGED = {
    "factors": 1,
    "interference": 2,
    "metrics": 1,
    "queries": 1,
    "replicas": 1,
    "tags": 1,
    "pod_spec": 1,
    "file_paths": 1,
}
"""Mappings that are merged key by key, and how deep; everything else is replaced as a whole."""


_TOTALS = {("per_generator", "connections"), ("per_generator", "threads")}
"""What AEFM says of one generator, and the top level of all of them."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A value, and where it was written."""

    value: Any
    origin: Origin
    steps: Steps

    def error(
        self, what: str, at: Steps = (), expected: str | None = None, hint: str | None = None
    ) -> ConfigurationError:
        """Return the error that says what is wrong with it, or with a part of it."""
        return self.origin.error((*self.steps, *at), what, expected, hint)


Settings = dict[Key, Setting]


def merge_markers(markers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge the keyword arguments of markers, the closest first (as pytest's ``iter_markers`` yields them).

    The closest wins key by key; those of :data:`MERGED` are merged by their own keys.
    """
    merged: dict[str, Any] = {}
    for options in reversed(list(markers)):
        for key, value in options.items():
            merged[key] = _merge(merged.get(key), value, MERGED.get(key, 0))
    return merged


def contradiction(markers: Sequence[Mapping[str, Any]]) -> tuple[str, str, str] | None:
    """Return the first key to which two markers give different values, spelled, with both; None where all agree."""
    for far, near in itertools.combinations(markers, 2):
        for key in far:
            if key in near and (found := _differing(far[key], near[key], (key,), MERGED.get(key, 0))):
                return found
    return None


def _differing(far: Any, near: Any, steps: Steps, depth: int) -> tuple[str, str, str] | None:
    if depth and isinstance(far, Mapping) and isinstance(near, Mapping):
        shared = [key for key in far if key in near]
        parts = (_differing(far[key], near[key], (*steps, key), depth - 1) for key in shared)
        return next(filter(None, parts), None)
    if shorten(far, 1000) == shorten(near, 1000):  # what a value is like, not what its == returns
        return None
    return spell(steps), shorten(far), shorten(near)


def _merge(far: Any, near: Any, depth: int) -> Any:
    if not depth or not isinstance(far, Mapping) or not isinstance(near, Mapping):
        return near
    return {**far, **{key: _merge(far.get(key), value, depth - 1) for key, value in near.items()}}


def settings_of_file(path: Path, shown: str | None = None) -> Settings:
    """Read the settings of a YAML file.

    Raises:
        ConfigurationError: the file cannot be read, or a key or value in it is wrong.
    """
    from pytest_aefm.experiment.schema import ExperimentFile

    value, origin = read_yaml(path, shown)
    model = _validated(ExperimentFile, value, origin)
    settings = _top_level(model, origin)
    for key, setting in _test_cases(model, origin):
        other = settings.get(key[1:] if key in _TOTALS else key)
        if other is not None:
            what = f"{spell(setting.steps)} says it too, in line {origin.line(setting.steps)}"
            raise other.error(what, hint="keep one of them")
        settings[key] = setting
    return settings


def settings_of_marker(options: Mapping[str, Any], where: str) -> Settings:
    """Read the settings of a marker's keyword arguments; ``where`` names the marker in messages.

    Raises:
        ConfigurationError: a name or value is wrong.
    """
    from pytest_aefm.experiment.schema import Options

    origin = Origin(where)
    return _top_level(_validated(Options, options, origin), origin)


def _validated(model: type[BaseModel], value: Mapping[Any, Any], origin: Origin) -> BaseModel:
    from pydantic import ValidationError

    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _translated(error, origin) from None


def _translated(error: ValidationError, origin: Origin) -> ConfigurationError:
    """Return the first problem in the order of lines; the others are named in the hint."""
    problems = []
    for found in error.errors(include_url=False):
        context = found.get("ctx", {})
        steps: Steps = tuple(step for step in found["loc"] if not str(step).startswith("[")) + tuple(
            context.get("at", ())
        )
        problems.append((origin.line(steps), steps, *_sentence(found, context)))
    problems.sort(key=operator.itemgetter(0))
    _, steps, what, hint = problems[0]
    if others := [f"{spell(steps)} (line {line})" if origin.file else spell(steps) for line, steps, *_ in problems[1:]]:
        more = "also wrong: " + ", ".join(others[:4]) + (", ..." if len(others) > 4 else "")
        hint = f"{hint}; {more}" if hint else more
    return origin.error(steps, what, hint=hint)


def _sentence(found: Any, context: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return what one of pydantic's errors means, and the next step."""
    got = shorten(found["input"])
    match found["type"]:
        case "wrong":
            return context["what"], context["hint"]
        case "missing":
            return "the key is missing", None
        case "literal_error":
            known = [part.strip("' ") for part in context["expected"].replace(" or ", ",").split(",")]
            return f"expected {context['expected']}, got {got}", did_you_mean(str(found["input"])[:60], known)
        case "dict_type":
            return f"expected a mapping, got {got}", None
        case "list_type":
            return f"expected a list, got {got}", None
    return f"{found['msg']}, got {got}", None


def _top_level(model: BaseModel, origin: Origin) -> Settings:
    settings: Settings = {}
    for name, written in _given(model):
        if name == "fault" and not isinstance(written, tuple):  # the fault itself stands for its level 1
            settings["fault",] = Setting((1,), origin, (name,))
            for part, value in _given(written):
                settings["interference", name, part] = Setting(value, origin, (name, part))
            continue
        for key, value in _leaves((name,), written, MERGED.get(name, 0)):
            settings[key] = Setting(value, origin, key)
    settings.pop(("test_cases",), None)
    return settings


def _leaves(key: Key, value: Any, depth: int) -> Iterator[tuple[Key, Any]]:
    if not depth:
        yield key, value
        return
    items = value.items() if isinstance(value, Mapping) else _given(value)
    for name, item in items:
        yield from _leaves((*key, name), item, depth - 1)


def _given(model: BaseModel | None) -> list[tuple[str, Any]]:
    """Return the fields of a model that were written, in the order of the model."""
    if model is None:
        return []
    return [(name, getattr(model, name)) for name in type(model).model_fields if name in model.model_fields_set]


def _test_cases(model: Any, origin: Origin) -> Iterator[tuple[Key, Setting]]:
    """Yield AEFM's matrix under the names that the top level has."""
    cases = model.test_cases
    if cases is None:
        return

    def setting(value: Any, *steps: str) -> Setting:
        return Setting(value, origin, ("test_cases", *steps))

    if cases.orders is not None:
        yield ("orders",), setting(cases.orders, "orders")
    if cases.round is not None:
        yield ("rounds",), setting(cases.round, "round")
    if cases.workload is not None and cases.workload.range is not None:
        yield ("rate",), setting(cases.workload.range, "workload", "range")
    for name, value in _given(cases.workload and cases.workload.configs):
        key = name if name == "script" else "per_generator"
        yield (key,) if key == name else (key, name), setting(value, "workload", "configs", name)
    for kind, factor in _given(cases.interferences):
        yield (kind,), setting(factor.range, "interferences", kind, "range")
        for name, value in _given(factor.configs):
            yield ("interference", kind, name), setting(value, "interferences", kind, "configs", name)
    for name, values in (cases.__pydantic_extra__ or {}).items():
        yield ("factors", name), setting(values, name)
