"""SLOs: the grammar, and the decision of each kind of condition."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_aefm.decision import Latency, SLOResult, binomial_cdf, binomial_tail, check, requests_needed
from pytest_aefm.errors import ConfigurationError
from pytest_aefm.histogram import LatencyHistogram
from pytest_aefm.slo import DEFAULT_SLOS, parse, with_defaults


def latency(values_ms: list[float], at_least_ms: list[float] | None = None) -> Latency:
    """Build latencies from milliseconds."""
    exact = LatencyHistogram.of(value * 1e3 for value in values_ms)
    return Latency(exact, LatencyHistogram.of(value * 1e3 for value in at_least_ms or []))


@pytest.mark.parametrize(
    ("text", "metric", "source", "limit", "unit"),
    [
        ("p99 < 250ms", "p99", "latency", 250.0, "ms"),
        ("p(99.9)<1s", "p99.9", "latency", 1000.0, "ms"),
        ("p50<=500us", "p50", "latency", 0.5, "ms"),
        ("error_rate <= 0.1%", "error_rate", "error_rate", 0.001, "share"),
        ("goodput >= 99%", "goodput", "goodput", 0.99, "share"),
        ("goodput >= 0.99", "goodput", "goodput", 0.99, "share"),
        ("max < 2s", "max", "latency", 2000.0, "ms"),
        ("restarts == 0", "restarts", "restarts", 0.0, "count"),
        ("restarts(rate) == 0", "restarts(rate)", "restarts(rate)", 0.0, "count"),
        ("cpu(search) < 80%", "cpu(search)", "cpu(search)", 0.8, "share"),
        ("memory(rate) < 200Mi", "memory(rate)", "memory(rate)", 200 * 2**20, "bytes"),
        ("self_time(rate, p95) < 20ms", "self_time(rate, p95)", "self_time(rate)", 20.0, "ms"),
        ("p99{outcome=5xx} < 1s", "p99{outcome=5xx}", "latency{outcome=5xx}", 1000.0, "ms"),
    ],
)
def test_grammar(text: str, metric: str, source: str, limit: float, unit: str) -> None:
    """Each form of the grammar is read as it is meant."""
    slo = parse(text)
    assert (metric, source, unit) == (slo.metric, slo.source, slo.unit)
    assert limit == pytest.approx(slo.limit)


def test_shares_are_exact() -> None:
    """A limit of 95 % holds at exactly 95 %."""
    assert 0.95 == parse("goodput >= 95%").limit


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("p99", "malformed SLO 'p99'"),
        ("p99 = 5ms", "malformed SLO"),
        ("p99 < 250", "no unit in 'p99 < 250'; expected 'us', 'ms', 's', 'm'"),
        ("p99 < 250MB", "bad unit 'MB'"),
        ("p0 < 1s", "bad percentile 'p0'"),
        ("p100 < 1s", "bad percentile 'p100'"),
        ("p99 > 1s", "'<' or '<=' for a percentile"),
        ("goodptu >= 99%", "unknown metric 'goodptu'"),
        ("goodptu >= 99%", "did you mean 'goodput'?"),
        ("goodput >= 99", "limit out of range"),
        ("cpu < 80%", "cpu(service)"),
        ("goodput(x) > 1%", "goodput without arguments"),
        ("self_time(rate) < 5ms", "self_time(service, p95)"),
        ("p99{outcome=6xx} < 1s", "unknown outcome '6xx'"),
        ("max{outcome=5xx} < 1s", "does not apply to 'max'"),
        ("p99 < 1.2.3s", "bad number"),
    ],
)
def test_malformed(text: str, words: str) -> None:
    """A malformed condition is refused with what would be right."""
    with pytest.raises(ConfigurationError) as caught:
        parse(text, "hotel.yaml:3")
    assert str(caught.value).startswith("hotel.yaml:3: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(("percent", "needed"), [(95, 59), (99, 299), (99.9, 2995)])
def test_requests_needed(percent: float, needed: int) -> None:
    """The least counts are those that the definitions give."""
    assert needed == requests_needed(percent, 0.95)


@given(st.integers(1, 400), st.integers(-1, 400), st.floats(0.001, 0.999))
def test_binomial_is_exact(n: int, k: int, p: float) -> None:
    """The cumulative binomial equals its defining sum."""
    expected = sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(min(k, n) + 1))
    assert binomial_cdf(k, n, p) == pytest.approx(min(expected, 1.0), abs=1e-9)


@pytest.mark.parametrize(
    ("n", "above", "verdict"),
    [(58, 0, "inconclusive"), (59, 0, "passed"), (100, 1, "passed"), (100, 5, "inconclusive"), (100, 10, "violated")],
)
def test_percentile_is_decided_by_the_binomial_test(n: int, above: int, verdict: str) -> None:
    """p95 passes, fails or stays open as the exact one-sided test at 95 % says."""
    values = [10.0] * (n - above) + [300.0] * above
    result = check(parse("p95 < 250ms"), {"latency": latency(values)})
    assert (verdict, n, above) == (result.verdict, result.n, result.above)


@pytest.mark.parametrize(
    ("n_eff", "verdict"), [(None, "passed"), (1000.0, "passed"), (300.0, "inconclusive"), (100.0, "inconclusive")]
)
def test_requests_that_resemble_one_another_decide_less(n_eff: float | None, verdict: str) -> None:
    """3 % above of 1,000 independent requests show p95; of requests worth 300 or fewer they do not."""
    values = latency([10.0] * 970 + [300.0] * 30)
    known = Latency(values.exact, values.at_least, {} if n_eff is None else {250_000: n_eff})
    result = check(parse("p95 < 250ms"), {"latency": known})
    assert (verdict, 30, n_eff) == (result.verdict, result.above, result.n_eff)
    assert result.reason.endswith("independence assumed" if n_eff is None else f"n_eff {n_eff:.0f}")


@settings(max_examples=20)
@given(st.integers(59, 400), st.floats(0.05, 1.0), st.integers(1, 40))
def test_bounds_are_the_limits_at_which_the_verdict_changes(n: int, share: float, step: int) -> None:
    """Below the lower bound a limit is violated, above the upper one it passes, between them it stays open."""
    values = latency([float(10 + step * number) for number in range(n)])

    def decided(limit_ms: float) -> SLOResult:
        text = f"p90 <= {limit_ms:.3f}ms"
        slo = parse(text)
        n_eff = {round(slo.limit * 1e3): max(1.0, share * n)}
        return check(slo, {"latency": Latency(values.exact, values.at_least, n_eff)})

    low, high = decided(20.0).bounds or (None, None)
    if low is not None:
        assert ["violated", "inconclusive"] == [decided(low * factor).verdict for factor in (0.998, 1.002)]
    if high is not None:
        assert ["inconclusive", "passed"] == [decided(high * factor).verdict for factor in (0.998, 1.002)]
    assert (high is None) == (decided(10 + step * n + 1.0).verdict != "passed")


def test_bounds_end_where_requests_never_did() -> None:
    """With too many requests that never ended no limit is high enough."""
    result = check(parse("p95 < 250ms"), {"latency": latency([10.0] * 80, [2000.0] * 20)})
    low, high = result.bounds or (None, None)
    assert high is None
    assert low == pytest.approx(2000.0, rel=1e-3)


@given(st.integers(0, 50), st.integers(1, 50), st.floats(0.01, 0.99))
def test_both_tails_of_the_binomial_distribution_agree(k: int, n: int, p: float) -> None:
    """P(X >= k) and P(X <= k - 1) are each other's complement."""
    k = min(k, n)
    assert binomial_tail(k, n, p) == pytest.approx(1 - binomial_cdf(k - 1, n, p), abs=1e-9)


def test_confidence_zero_judges_the_point_value() -> None:
    """At confidence 0 five of a hundred above the limit just hold p95, six do not."""
    slo = parse("p95 < 250ms")
    assert check(slo, {"latency": latency([10.0] * 95 + [300.0] * 5)}, 0).verdict == "passed"
    assert check(slo, {"latency": latency([10.0] * 94 + [300.0] * 6)}, 0).verdict == "violated"


def test_lower_bounds_below_the_limit_leave_it_open() -> None:
    """Requests that never ended may lie on either side of a limit above their bound."""
    open_ended = check(parse("p95 < 5s"), {"latency": latency([10.0] * 80, [2000.0] * 20)})
    assert open_ended.verdict == "inconclusive"
    assert "20 unknown" in open_ended.reason


def test_lower_bounds_above_the_limit_violate_it() -> None:
    """Requests that had not ended beyond the limit count as above it."""
    result = check(parse("p95 < 250ms"), {"latency": latency([10.0] * 80, [2000.0] * 20)})
    assert ("violated", 20) == (result.verdict, result.above)


def test_max_is_violated_by_a_bound_and_never_passed_by_one() -> None:
    """A request that never ended makes max at least its bound: violated above the limit, open below."""
    metrics = {"latency": latency([10.0], [1500.0])}
    assert check(parse("max < 1s"), metrics).verdict == "violated"
    assert check(parse("max < 2s"), metrics).verdict == "inconclusive"
    assert check(parse("max < 2s"), {"latency": latency([10.0])}).verdict == "passed"


def test_outcome_without_answers_holds() -> None:
    """p99{outcome=5xx} holds where no answer was a 5xx."""
    assert check(parse("p99{outcome=5xx} < 1s"), {"latency{outcome=5xx}": latency([])}).verdict == "passed"


@pytest.mark.parametrize("text", ["p99 < 1s", "cpu(rate) < 80%", "self_time(rate, p95) < 1s", "max < 1s"])
def test_no_samples_is_no_data(text: str) -> None:
    """A metric without samples is never a pass."""
    assert check(parse(text), {"latency": latency([])}).verdict == "no_data"


def test_nan_is_no_data() -> None:
    """A share of nothing is no data."""
    assert check(parse("goodput >= 99%"), {"goodput": math.nan}).verdict == "no_data"


def test_defaults_are_added_and_replaced_by_name() -> None:
    """The defaults stand unless an SLO of the same metric replaces them."""
    assert list(DEFAULT_SLOS) == [str(slo) for slo in with_defaults(())]
    own = (parse("goodput >= 50%"), parse("restarts(rate) == 0"))
    assert [str(slo) for slo in with_defaults(own)] == [
        "goodput >= 50%",
        "restarts(rate) == 0",
        "error_rate < 1%",
        "restarts == 0",
    ]


def test_self_time_is_judged_as_it_is() -> None:
    """self_time(service, p95) is the point value of the service's histogram, however few its requests."""
    histogram = LatencyHistogram.of([5_000.0] * 10)
    assert check(parse("self_time(rate, p95) < 20ms"), {"self_time(rate)": histogram}).verdict == "passed"
    assert check(parse("self_time(rate, p95) < 2ms"), {"self_time(rate)": histogram}).verdict == "violated"


@pytest.mark.parametrize(
    ("text", "metric", "source"),
    [
        ("p99{tag=search} < 200ms", "p99{tag=search}", "latency{tag=search}"),
        ("p99{ outcome = 5xx , tag = a b } < 1s", "p99{tag=a b,outcome=5xx}", "latency{tag=a b,outcome=5xx}"),
        ("goodput{tag=search} >= 99%", "goodput{tag=search}", "goodput{tag=search}"),
        ("max{tag=search} < 1s", "max{tag=search}", "latency{tag=search}"),
    ],
)
def test_a_tag_names_some_of_the_requests(text: str, metric: str, source: str) -> None:
    """Braces say which requests are meant; the default SLOs on all of them stay."""
    slo = parse(text)
    assert (metric, source) == (slo.metric, slo.source)
    assert set(DEFAULT_SLOS) < {str(one) for one in with_defaults((slo,))}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("restarts{tag=a} == 0", "{tag=...} does not apply to 'restarts'"),
        ("goodput{outcome=5xx} >= 1%", "{outcome=...} does not apply to 'goodput'"),
        ("p99{tag=} < 1s", "malformed {tag=}"),
        ("p99{tag=a,tag=b} < 1s", "malformed {tag=a,tag=b}"),
        ("p99{} < 1s", "malformed {}"),
        ("p99{colour=red} < 1s", "malformed {colour=red}"),
    ],
)
def test_wrong_labels_are_refused(text: str, message: str) -> None:
    """The message says which label, and what is expected."""
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        parse(text)


def test_restarts_name_the_services() -> None:
    """A violated sum of restarts names the services that restarted."""
    metrics = {"restarts": 1.0, "restarts(rate)": 1.0, "restarts(geo)": 0.0}
    result = check(parse("restarts == 0"), metrics)
    assert ("violated", 1.0, "rate") == (result.verdict, result.observed, result.reason)
