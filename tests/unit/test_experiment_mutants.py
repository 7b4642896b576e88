"""Whatever is done to a valid experiment, it stays valid or is refused with file, line and path."""

from __future__ import annotations

import copy
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_aefm.errors import ConfigurationError
from pytest_aefm.experiment import Experiment, from_options, load, merge_markers

DATA = Path(__file__).parent / "data"
VALID = [yaml.safe_load((DATA / name).read_text()) for name in ("aefm-social.yaml", "hotel.yaml")]
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 3),
    st.sampled_from([10**400, -(10**400), 1e308, -1e-308, 0, 0.0, -1]),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["200rps", "5s", "-5s", "0ms", "200Mi", "none", "p99 < 1ms", "p99.99 < 1ms", "round", "cpu"]),
    st.dates(),
    st.binary(max_size=4),
    st.lists(st.integers(-2, 5) | st.text(max_size=3), max_size=4),
    st.fixed_dictionaries({"min": st.integers(-5, 5), "max": st.integers(-5, 10**12), "step": st.floats(-1, 2)}),
    st.dictionaries(st.text(max_size=4) | st.integers(), st.integers() | st.text(max_size=3), max_size=3),
)  # fmt: skip


def places(value: Any, steps: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every value of a document."""
    found: list[tuple[Any, ...]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += [(*steps, key), *places(item, (*steps, key))]
    return found


def misspelt(draw: st.DrawFn, key: str) -> str:
    """Drop, double or swap a letter."""
    position = draw(st.integers(0, len(key) - 1))
    kinds = [key[:position] + key[position + 1 :], key[:position] + key[position] * 2 + key[position + 1 :],
             key[:position] + key[position:][::-1], key + "s", key.upper()]  # fmt: skip
    return draw(st.sampled_from(kinds))


@st.composite
def mutants(draw: st.DrawFn) -> dict[Any, Any]:
    """Take a valid experiment and drop, misspell or replace one to three of its parts."""
    document: dict[Any, Any] = copy.deepcopy(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 3))):
        ways = places(document)
        if not ways:
            break
        *way, key = draw(st.sampled_from(ways))
        parent: Any = document
        for step in way:
            parent = parent[step]
        kind = draw(st.sampled_from(["drop", "misspell", "replace", "add"]))
        if kind == "drop":
            del parent[key]
        elif kind == "misspell" and isinstance(key, str) and key:
            parent[misspelt(draw, key)] = parent.pop(key)
        elif kind == "add" and isinstance(parent, dict):
            parent[draw(st.text(max_size=5) | st.integers())] = draw(ODD)
        else:
            parent[key] = draw(ODD)
    return document


def refusal(make: Callable[[], Experiment]) -> ConfigurationError | None:
    """Return the error with which an experiment is refused, or None where it has cases."""
    try:
        assert make().cases()
    except ConfigurationError as error:
        return error
    return None


@given(mutants(), st.booleans())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_malformed_file_has_a_message(document: dict[Any, Any], flow: bool) -> None:
    """A mutated experiment is valid, or refused with the file, a line of it and a path in it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hotel.yaml"
        text = yaml.dump(document, Dumper=DUMPER, sort_keys=False, default_flow_style=flow, allow_unicode=True)
        path.write_text(text)
        error = refusal(lambda: load(path, shown="hotel.yaml"))
    if error is not None:
        place = re.fullmatch(r"hotel\.yaml:(\d+)", error.subject)
        assert place
        assert 1 <= int(place[1]) <= len(text.splitlines())
        assert error.what.isprintable()
        assert ": " in error.what or "matrix" in error.what or " id " in error.what


@given(mutants())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_malformed_marker_has_a_message(document: dict[Any, Any]) -> None:
    """Mutated arguments of a marker make an experiment, or are refused by the marker's name."""
    options = merge_markers([{str(key): value for key, value in document.items() if key != "test_cases"}, VALID[1]])
    error = refusal(lambda: from_options(options, where="t.py::test_x", name="x"))
    assert error is None or error.subject == "t.py::test_x"


@given(st.binary(max_size=60) | st.text("ab:-[]{}&*!|>'\"#%@,\n\t ?<01", max_size=60).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_any_text_has_a_message(text: bytes) -> None:
    """A file of any bytes is refused as a configuration that is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hotel.yaml"
        path.write_bytes(text)
        error = refusal(lambda: load(path, shown="hotel.yaml"))
    assert error is not None
    assert re.fullmatch(r"hotel\.yaml:\d+", error.subject)
