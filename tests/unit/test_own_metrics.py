"""Metrics of the user's own: how they are written, asked for and judged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_aefm import experiment
from pytest_aefm.collectors.own_metrics import QueryCollector, query_collectors
from pytest_aefm.errors import CollectorError, ConfigurationError
from pytest_aefm.model import Window
from pytest_aefm.queries import peak_selectors, trouble
from tests.unit.fake_prometheus import FakePrometheus, serving

WINDOW = Window(1000.0, 0.0, 40.0)
PEAK = "max_over_time(queue_depth[$window])"
COUNT = "min by (job) (count_over_time(queue_depth[40000ms]))"


@pytest.fixture
def fake() -> Iterator[FakePrometheus]:
    """A server of canned answers."""
    with serving() as server:
        yield server


def rows(*values: str, **labels: str) -> list[Any]:
    """Return a vector of these values."""
    return [{"metric": labels, "value": [1040.0, value]} for value in values]


def test_the_query_is_asked_at_the_end_of_the_window(fake: FakePrometheus) -> None:
    """The window's length stands for $window, and the answer is the metric."""
    fake.answers = {"max_over_time(queue_depth[40000ms])": rows("7"), COUNT: rows("40", job="app")}
    seen = QueryCollector(fake.url, "queue_depth", PEAK).collect(WINDOW)
    assert ({"queue_depth": 7.0}, {}) == (dict(seen.metrics), dict(seen.unfit))
    (asked,) = [one for one in fake.asked if one["query"] == ["max_over_time(queue_depth[40000ms])"]]
    assert 1040.0 == pytest.approx(float(asked["time"][0]), abs=0.5)


def test_too_few_points_carry_no_peak(fake: FakePrometheus) -> None:
    """Two points in 40 s give a number, and no verdict: the window must be four scrapes long."""
    fake.answers = {"max_over_time(queue_depth[40000ms])": rows("7"), COUNT: rows("2", job="app")}
    fake.intervals = {"app": "30s"}
    seen = QueryCollector(fake.url, "queue_depth", PEAK).collect(WINDOW)
    assert {"queue_depth": 7.0} == seen.metrics
    assert seen.unfit["queue_depth"].endswith("the window must last 120 s or longer")


def test_what_is_no_peak_needs_no_points(fake: FakePrometheus) -> None:
    """A query that claims no peak is taken as it is."""
    fake.answers = {"queue_depth": rows("7")}
    assert {} == QueryCollector(fake.url, "queue_depth", "queue_depth").collect(WINDOW).unfit


@pytest.mark.parametrize("answer", [[], rows("NaN")])
def test_nothing_is_no_data(fake: FakePrometheus, answer: list[Any]) -> None:
    """An empty answer, and NaN, give no metric; the query is in the details."""
    fake.answers = {"queue_depth": answer}
    seen = QueryCollector(fake.url, "queue_depth", "queue_depth").collect(WINDOW)
    assert {} == seen.metrics
    assert "queue_depth" == seen.details["query"]


def test_a_scalar_is_a_number(fake: FakePrometheus) -> None:
    """A query may give a scalar."""
    fake.answers = {"scalar(up)": [1040.0, "3"]}
    assert {"up": 3.0} == QueryCollector(fake.url, "up", "scalar(up)").collect(WINDOW).metrics


def test_several_series_are_refused(fake: FakePrometheus) -> None:
    """Which of them was meant is not guessed."""
    fake.answers = {"queue_depth": rows("1", "2", pod="a")}
    with pytest.raises(CollectorError, match=r"queue_depth: 2 series, .* expected one; aggregate them"):
        QueryCollector(fake.url, "queue_depth", "queue_depth").collect(WINDOW)


def test_metrics_without_a_query_are_left_to_collectors() -> None:
    """Each query has a collector of its own, so that one that fails stops no other."""
    found = query_collectors("http://x", {"a": "up", "b": None})
    assert [("metric a", frozenset({"a"}))] == [(one.name, one.provides) for one in found]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (PEAK, ("queue_depth",)),
        ('min_over_time(free{pod=~"a.*"}[$window]) / on() max_over_time(all[ $window ])', ('free{pod=~"a.*"}', "all")),
        ("sum(rate(x[$window]))", ()),
        ("max_over_time(rate(x[5s])[$window:1s])", ()),
    ],
)
def test_which_selectors_claim_a_peak(query: str, expected: tuple[str, ...]) -> None:
    """Those whose samples over the window are looked at for their largest, least or quantile."""
    assert expected == peak_selectors(query)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (PEAK, None),
        ('up{path="a[(b"}', None),
        ("sum(up", "'(' is not closed"),
        ("up]", "']' closes nothing"),
        ('up{a="b}', "a quote is not closed"),
        ("rate(up[$windw])", "$windw is not known; expected $window"),
    ],
)
def test_what_is_wrong_with_a_query_is_found_without_a_server(query: str, expected: str | None) -> None:
    """Names that are not known, brackets and quotes."""
    assert expected == trouble(query, ("window",))


HEAD = "app: hotel\nscript: hotel/search.lua\nrate: 100\nduration: 10s\n"


def load(folder: Path, text: str) -> experiment.Experiment:
    """Return the experiment of a file."""
    path = folder / "it.yaml"
    path.write_text(HEAD + text)
    return experiment.load(path, shown="it.yaml")


def test_an_experiment_has_metrics_with_slos(tmp_path: Path) -> None:
    """An SLO on a metric of one's own has no unit, and may be negative."""
    made = load(tmp_path, f"metrics:\n  queue_depth: {PEAK!r}\n  load1:\nslos: [queue_depth < 10, load1 > -1.5]\n")
    assert {"queue_depth": PEAK, "load1": None} == made.metrics
    assert [("queue_depth", 10.0), ("load1", -1.5)] == [(slo.metric, slo.limit) for slo in made.slos[:2]]
    assert made.metrics == made.cases()[0].metrics


def test_a_marker_may_ask_for_what_its_file_defines(tmp_path: Path) -> None:
    """Metrics of the file and SLOs of the marker are settled when both are known."""
    base = load(tmp_path, "metrics: {queue_depth: up}\n")
    made = experiment.from_options({"slos": ["queue_depth < 10"]}, where="test", name="test", base=base)
    assert "queue_depth" == made.slos[0].name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("metrics: {queue_depth: up}\nslos:\n- queue_dept < 10\n", "it.yaml:7: slos[0]: unknown metric 'queue_dept'"),
        ("slos:\n- gooput >= 99%\n", "it.yaml:6: slos[0]: unknown metric 'gooput' in 'gooput >= 99%'"),
        ("metrics: {x: up}\nslos: [x < 10ms]\n", "it.yaml:6: slos[0]: bad unit 'ms' in 'x < 10ms'"),
        ("metrics: {x: up}\nslos: [x(a) < 10]\n", "it.yaml:6: slos[0]: 'x' takes no arguments"),
        ("metrics:\n  x: sum(up\n", "it.yaml:6: metrics.x: '(' is not closed in 'sum(up'"),
        ("metrics:\n  x: up[$windw]\n", "it.yaml:6: metrics.x: $windw is not known; expected $window"),
        ("metrics:\n  x: 5\n", "it.yaml:6: metrics.x: expected PromQL, got 5"),
        ("metrics:\n  goodput: up\n", "it.yaml:6: metrics.goodput: 'goodput' is a metric that there is already"),
        ("metrics:\n  p99: up\n", "it.yaml:6: metrics.p99: 'p99' is a metric that there is already"),
        ("metrics:\n  a-b: up\n", "it.yaml:6: metrics.a-b: expected a name"),
        ("metrics: up\n", "it.yaml:5: metrics: expected a mapping"),
        ("queries:\n  cpuu: up\n", "it.yaml:6: queries.cpuu: unknown query 'cpuu'; expected one of cpu, memory"),
        ("queries:\n  cpu: up{n=$name}\n", "it.yaml:6: queries.cpu: $name is not known; expected $namespace or $job"),
    ],
)
def test_mistakes_are_found_at_collection(tmp_path: Path, text: str, message: str) -> None:
    """With file and line."""
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text)
    assert str(caught.value).startswith(message)
