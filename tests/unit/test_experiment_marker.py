"""Experiments from a marker's keyword arguments, alone or on top of a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_aefm.errors import ConfigurationError
from pytest_aefm.experiment import Experiment, Factor, from_options, load, merge_markers

DATA = Path(__file__).parent / "data"
WHERE = "test_hotel.py::test_search"
ALONE: dict[str, Any] = {"app": "hotel", "script": Path("hotel/search.lua"), "rate": [100, 200], "duration": "1m"}


def marked(base: Path | Experiment | None = None, **options: Any) -> Experiment:
    """Return the experiment of one marker."""
    return from_options(options, where=WHERE, name="search", base=base)


def test_keyword_arguments_alone_make_an_experiment() -> None:
    """A marker needs no file; a scalar is a factor of one value, a number of rounds counts from 1."""
    found = marked(**ALONE, cpu=1, rounds=3, warmup="500ms", connections=16, factors={"payload": (1, 2)})
    assert (
        Factor("cpu", (1,)), Factor("payload", (1, 2)), Factor("rate", (100, 200)), Factor("round", (1, 2, 3)),
    ) == found.factors  # fmt: skip
    assert ("search", "hotel/search.lua", None) == (found.name, found.script, found.source)
    assert (60, 0.5, 16) == (found.load.duration_s, found.load.warmup_s, found.load.connections)


def test_a_schedule_is_in_multiples_of_each_rate() -> None:
    """A shape serves every rate: it lasts as long as its phases, and what it sends decides SLOs."""
    options = {key: value for key, value in ALONE.items() if key != "duration"}
    found = marked(**options, schedule="0.5x:10s, 1x..2x:1m", distribution="exp", slos=["p95 < 1s"])
    slow, fast = sorted((case.load for case in found.cases()), key=lambda load: load.rate_rps)
    assert [((50, 50, 10), (100, 200, 60)), ((100, 100, 10), (200, 400, 60))] == [
        slow.schedule,
        fast.schedule,
    ]
    assert (70, 95, "exp", (1000,)) == (
        slow.duration_s,
        found.load.requests_s,
        slow.distribution,
        slow.limits_ms,
    )


def test_a_window_may_end_early() -> None:
    """By precision, whose duration is the upper limit, or because the run is hopeless."""
    load = marked(**ALONE, precision="p99 : 2.5%", abort="error_rate > 50% : 5s").cases()[0].load
    assert ((99.0, 0.025), (0.5, 5.0)) == (load.precision, load.abort)


def test_a_precision_that_leaves_an_slo_undecided_is_refused() -> None:
    """A median is known after fewer requests than a p95 needs; a p95 is not."""
    expected = (
        r"precision: p50 may be known after 6 requests; p95 < 1s needs more; expected a percentile of at least p95"
    )
    with pytest.raises(ConfigurationError, match=expected):
        marked(**ALONE, precision="p50:5%", slos=["p95 < 1s"]).cases()
    assert marked(**ALONE, precision="p95:5%", slos=["p95 < 1s", "p50 < 1s"]).cases()


def test_records_of_requests_are_kept_where_asked_for() -> None:
    """They are large, so nobody gets them unasked."""
    assert [False, True] == [
        found.cases()[0].load.requests for found in (marked(**ALONE), marked(**ALONE, requests=True))
    ]


def test_tags_are_merged_by_name(tmp_path: Path) -> None:
    """A marker adds tags to those of the file."""
    (tmp_path / "hotel.yaml").write_text("app: hotel\nrate: 20\nduration: 60\nscript: a.lua\ntags: {one: /1}\n")
    found = marked(tmp_path / "hotel.yaml", tags={"two": "GET /2*"})
    assert {"one": "/1", "two": "GET /2*"} == found.cases()[0].load.tags


def test_keyword_arguments_override_the_file() -> None:
    """What the marker says wins, key by key; the rest stays as the file has it."""
    found = marked(DATA / "hotel.yaml", rate=[5], exclude=[], interference={"cpu": {"cpu_size": 1}})
    assert ("hotel search", (5,)) == (found.name, found.factors[2].values)
    assert {"cpu": {"cpu_size": 1, "mem_size": 100 * 2**20}} == found.interference
    assert DATA / "hotel.yaml" == found.source


def test_keyword_arguments_override_aefms_matrix() -> None:
    """AEFM's nested keys are overridden by their short names."""
    found = marked(DATA / "aefm-social.yaml", rate=9, cpu=[0], connections=3, rounds=1, testbed="local")
    assert ["social-cpu0-mem_capacity1-9rps-r1", "social-cpu0-mem_capacity2-9rps-r1"] == [
        case.id for case in found.cases()
    ]
    assert ("local", 3) == (found.testbed, found.cases()[0].load.connections)


def test_an_experiment_can_be_the_base() -> None:
    """A file that was read once serves several markers."""
    base = load(DATA / "hotel.yaml")
    assert marked(DATA / "hotel.yaml", rounds=1, seed=3) == marked(base, rounds=1, seed=3)


def test_the_marker_completes_the_file(tmp_path: Path) -> None:
    """A file may lack what the marker says."""
    (tmp_path / "hotel.yaml").write_text("app: hotel\nrate: 20\nduration: 60\n")
    assert "hotel-20rps" == marked(tmp_path / "hotel.yaml", script="hotel/search.lua").cases()[0].id


def test_a_factor_of_the_marker_is_never_left_out() -> None:
    """A factor that a file's orders cannot name because the marker adds it is the outermost."""
    found = marked(DATA / "aefm-social.yaml", cpu=1, mem_capacity=1, rounds=1, rate=1, factors={"payload": [1, 2]})
    assert ("rate", "round", "mem_capacity", "cpu", "payload") == found.matrix.orders
    assert [1, 2] == [case.factors["payload"] for case in found.cases()]


def test_values_that_the_marker_replaced_may_be_excluded() -> None:
    """A file's exclude does not bind a marker to the file's values."""
    assert 8 == len(marked(DATA / "hotel.yaml", rate=[10]).cases())


def test_a_single_condition_is_a_list_of_one() -> None:
    """``slos`` takes one string too."""
    assert "p95 < 1s" == str(marked(**ALONE, slos="p95 < 1s").slos[0])


def test_the_closest_marker_wins_by_key() -> None:
    """Markers are merged key by key, the closest first; mappings of factors and sizes by their own keys."""
    function = {"rate": [1], "factors": {"a": [1]}}
    klass = {"rate": [2], "cpu": [0], "factors": {"a": [2], "b": [3]}}
    module = {"cpu": [5], "interference": {"cpu": {"cpu_size": 1}}}
    merged = merge_markers([function, klass, {"interference": {"cpu": {"mem_size": "1Gi"}}}, module])
    assert {
        "rate": [1],
        "cpu": [0],
        "factors": {"a": [1], "b": [3]},
        "interference": {"cpu": {"cpu_size": 1, "mem_size": "1Gi"}},
    } == merged
    assert {"rate": [2], "cpu": [0], "factors": {"a": [2], "b": [3]}} == klass


@pytest.mark.parametrize("wrong", [[1], None, 3])
def test_merging_leaves_wrong_types_to_the_reader(wrong: Any) -> None:
    """A mapping that is none is no reason for a traceback."""
    assert {"factors": wrong} == merge_markers([{"factors": wrong}, {"factors": {"a": [1]}}])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratee": 3}, "ratee: unknown key; did you mean 'rate'?"),
        ({"workload": [3]}, "workload: unknown key; did you mean 'rate'?"),
        ({"round": [1]}, "round: unknown key; did you mean 'rounds'?"),
        ({"rounds": 2, "factors": {"round": [1]}}, "factors.round: 'round' is no name for a factor of your own; "
         "expected the key rounds"),
        ({"factors": {"1st": [1]}}, "factors.1st: not a name; expected letters, digits and '_', a letter first"),
        ({"factors": {1: [1]}}, "factors[1]: expected a text, got 1"),
        ({"factors": [1]}, "factors: expected a mapping, got [1]"),
        ({"factors": {"x": object}}, "factors.x: expected a text, a number, true or false, got <class 'object'>"),
        ({"factors": {"x": [1, 1.0]}}, "factors.x[1]: 1 is listed twice"),
        ({"factors": {"x": []}}, "factors.x: expected at least one value, got none"),
        ({"rate": {100, 200}}, "rate: expected a positive number, got {200, 100}"),
        ({"rate": range(10**30)}, "rate: expected at most 100000 values"),
        ({"rate": None}, "rate: expected a value, got nothing"),
        ({"cpu": "x", "warmup": -1}, "cpu: expected a whole number from 0 to 10000, got 'x'; also wrong: warmup"),
        ({"cpu": range(1000), "network": range(1000)},
         "the matrix: 2000000 cases (1000 of cpu x 1000 of network x 2 of rate); expected at most 100000"),
        ({"testbed": "kubernets"}, "testbed: expected 'local' or 'kubernetes', got 'kubernets'; "
         "did you mean 'kubernetes'?"),
    ],
)  # fmt: skip
def test_a_wrong_marker_is_refused(options: dict[str, Any], message: str) -> None:
    """What is wrong in a marker is told with the test's name and the argument."""
    with pytest.raises(ConfigurationError) as refused:
        marked(**{**ALONE, **options})
    assert f"{WHERE}: {message}" == str(refused.value)


@pytest.mark.parametrize("key", ["app", "script", "rate", "duration"])
def test_what_is_missing_is_named(key: str) -> None:
    """An experiment needs an application, a script, a rate and a duration."""
    with pytest.raises(ConfigurationError, match=f"^{WHERE}: {key}: the key is missing; expected "):
        marked(**{name: value for name, value in ALONE.items() if name != key})


def test_errors_of_the_file_name_the_file() -> None:
    """A marker's file that is wrong is told by its own file and line."""
    message = r"hotel\.yaml:19: exclude\[0\]\.payload: 'payload' is left out by orders"
    with pytest.raises(ConfigurationError, match=message):
        marked(DATA / "hotel.yaml", orders=["rate", "cpu", "round"])


def test_an_error_of_a_setting_has_its_place() -> None:
    """Whoever finds a setting wrong later can say where it is written."""
    found = marked(DATA / "hotel.yaml", script="hotel/serch.lua")
    assert f"{WHERE}: script: not found" == str(found.error("script", "not found"))
    assert found.error("app", "unknown").subject.endswith("hotel.yaml:2")
