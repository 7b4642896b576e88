"""The matrix: every combination once, in the order that was asked for, under ids that a shell can take."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_aefm.errors import ConfigurationError
from pytest_aefm.experiment import KINDS, Experiment, from_options, interference_specs
from pytest_aefm.model import InterferenceSpec

HOTEL: dict[str, Any] = {"app": "hotel", "script": "hotel/search.lua", "rate": [100, 200], "duration": 60}


def experiment(**options: Any) -> Experiment:
    """Return an experiment of a marker's arguments on top of a small one."""
    return from_options({**HOTEL, **options}, where="test_hotel.py::test_search", name="search")


def ids(**options: Any) -> list[str]:
    """Return the ids in running order, without the application."""
    return [case.id.removeprefix("hotel-") for case in experiment(**options).cases()]


TEXTS = st.text("abcXYZ019_.+-", min_size=1, max_size=4)
LEVELS = st.lists(st.integers(0, 12), min_size=1, max_size=3, unique=True)


@st.composite
def matrices(draw: st.DrawFn) -> dict[str, Any]:
    """Draw options of a marker with some factors."""
    options: dict[str, Any] = {
        "rate": draw(st.lists(st.integers(1, 900) | st.floats(0.01, 50), min_size=1, max_size=4, unique=True))
    }
    for kind in draw(st.sets(st.sampled_from(KINDS), max_size=2)):
        options[kind] = draw(LEVELS)
    if draw(st.booleans()):
        options["rounds"] = draw(st.integers(1, 3))
    names = draw(st.sets(st.sampled_from(["payload", "users", "zoom"]), max_size=2))
    options["factors"] = {
        name: draw(st.lists(TEXTS, min_size=1, max_size=3, unique_by=str.lower)) for name in sorted(names)
    }
    options["order"] = draw(st.sampled_from(["blocks", "cost", "randomised"]))
    options["seed"] = draw(st.integers(0, 5))
    return options


def combinations(found: Experiment) -> set[tuple[Any, ...]]:
    """Return all combinations of the factors' values, in the order of ids."""
    return set(itertools.product(*(factor.values for factor in found.factors)))


@given(matrices())
@settings(deadline=None)
def test_every_combination_is_one_case(options: dict[str, Any]) -> None:
    """Whatever the order, each combination of the factors' values is a case exactly once."""
    found = experiment(**options)
    cases = found.cases()
    assert len(combinations(found)) == len(cases)
    assert combinations(found) == {tuple(case.factors.values()) for case in cases}
    assert list(range(len(cases))) == [case.position for case in cases]


@given(matrices())
@settings(deadline=None)
def test_ids_are_unique_and_legal(options: dict[str, Any]) -> None:
    """Ids differ even where case does not count, and hold only letters, digits and _.+-"""
    cases = experiment(**options).cases()
    assert len(cases) == len({case.id.lower() for case in cases})
    assert all(re.fullmatch(r"[A-Za-z0-9_.+-]+", case.id) for case in cases)


@given(matrices(), st.data())
@settings(deadline=None)
def test_listed_orders_nest_with_the_first_innermost(options: dict[str, Any], data: st.DataObject) -> None:
    """Where orders is given, the cases are the nested loops that it describes, the first factor changing fastest."""
    names = [factor.name for factor in experiment(**options).factors]
    orders = data.draw(st.permutations(names))
    found = experiment(**{**options, "order": "listed", "orders": orders})
    values = {factor.name: factor.values for factor in found.factors}
    nested = list(itertools.product(*(values[name] for name in reversed(orders))))
    assert nested == [tuple(case.factors[name] for name in reversed(orders)) for case in found.cases()]


@given(matrices())
@settings(deadline=None)
def test_ids_do_not_depend_on_the_order(options: dict[str, Any]) -> None:
    """The same combinations have the same ids, however they are ordered."""
    one = experiment(**options).cases()
    other = experiment(**{**options, "order": "cost"}).cases()
    assert {case.id: case.factors for case in one} == {case.id: case.factors for case in other}


@given(matrices())
@settings(deadline=None)
def test_rounds_follow_one_another(options: dict[str, Any]) -> None:
    """In blocks, by cost and at random, a round ends before the next begins."""
    numbers = [case.round for case in experiment(**options).cases()]
    assert sorted(numbers) == numbers


def test_ids_hold_every_factor() -> None:
    """An id names the application, interference, the user's own factors, the rate and the round."""
    assert ["cpu1-payload512-200rps-r1"] == ids(rate=200, cpu=1, factors={"payload": 512}, rounds=1)


def test_kinds_have_a_fixed_order() -> None:
    """Interference stands in ids as cpu, mem_capacity, mem_bandwidth, network, however it was written."""
    expected = ["cpu0-mem_capacity1-mem_bandwidth2-network3-5rps"]
    assert expected == ids(network=3, mem_bandwidth=2, mem_capacity=1, cpu=0, rate=5)


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        (0.25, "x0.25"),
        (True, "xtrue"),
        (-1, "x-1"),
        ("a b/ü", "xa_b__"),
        (1e22, "x1e+22"),
    ],
)
def test_values_are_spelled_for_the_shell(value: Any, spelled: str) -> None:
    """Numbers are spelled as Python does, and what is not legal in a node id becomes an underscore."""
    assert [f"{spelled}-5rps"] == ids(rate=5, factors={"x": value})


def test_integral_floats_are_integers() -> None:
    """200.0 and 200 are one rate, with one id."""
    assert ["200rps"] == ids(rate=200.0)


def test_an_application_from_a_file_is_named_by_it() -> None:
    """The id holds the stem of an application that is a topology file."""
    assert ["shop-5rps"] == [case.id for case in experiment(app="apps/shop.yaml", rate=5).cases()]


def test_blocks_nest_and_shuffle_anew_in_every_round() -> None:
    """Blocks are round > interference > the user's factors as written > rate; levels and rates are shuffled."""
    found = ids(cpu=[0, 1, 2], rounds=2, factors={"payload": ["b", "a"]}, rate=[1, 2, 3], seed=3)
    assert 36 == len(found)
    assert [
        "cpu1-payloadb-1rps-r1",
        "cpu1-payloadb-3rps-r1",
        "cpu1-payloadb-2rps-r1",
        "cpu1-payloada-1rps-r1",
        "cpu1-payloada-3rps-r1",
        "cpu1-payloada-2rps-r1",
        "cpu2-payloadb-1rps-r1",
    ] == found[:7]
    assert ["cpu1", "cpu2", "cpu0"] == list(dict.fromkeys(one.split("-")[0] for one in found if one.endswith("r1")))
    assert ["cpu2", "cpu0", "cpu1"] == list(dict.fromkeys(one.split("-")[0] for one in found if one.endswith("r2")))


def test_cost_keeps_the_order_of_blocks_as_written() -> None:
    """``order: cost`` nests as blocks do and shuffles nothing."""
    expected = [f"cpu{cpu}-{rate}rps-r{number}" for number in (1, 2) for cpu in (1, 0) for rate in (200, 100)]
    assert expected == ids(order="cost", cpu=[1, 0], rate=[200, 100], rounds=2)


def test_randomised_breaks_the_blocks() -> None:
    """``order: randomised`` mixes interference levels within a round."""
    found = ids(order="randomised", cpu=[0, 1], rate=list(range(1, 9)), rounds=1)
    assert len(list(itertools.groupby(found, key=lambda one: one.split("-")[0]))) > 2


def test_listed_follows_orders() -> None:
    """AEFM's orders: the first is the innermost loop; workload is the rate."""
    expected = ["cpu0-100rps-r1", "cpu0-100rps-r2", "cpu1-100rps-r1", "cpu1-100rps-r2"]
    assert expected == ids(orders=["workload", "round", "cpu"], cpu=[0, 1], rounds=2, rate=100)


@pytest.mark.parametrize("order", ["blocks", "randomised"])
def test_the_seed_decides_the_order(order: str) -> None:
    """Another seed gives another order of the same cases, the same seed the same."""
    options: dict[str, Any] = {"order": order, "rate": list(range(1, 40))}
    assert ids(seed=1, **options) == ids(seed=1, **options)
    assert ids(seed=1, **options) != ids(seed=2, **options)
    assert sorted(ids(seed=1, **options)) == sorted(ids(seed=2, **options))


def test_the_run_gives_the_seed_that_the_experiment_lacks() -> None:
    """``cases(seed=...)`` decides unless the experiment has a seed of its own."""
    rates = list(range(1, 40))
    assert experiment(rate=rates).cases(seed=1) != experiment(rate=rates).cases(seed=2)
    assert experiment(rate=rates, seed=9).cases(seed=1) == experiment(rate=rates, seed=9).cases(seed=2)


def test_cases_of_a_round_share_the_seed_of_their_requests() -> None:
    """All cases of a round send the same requests, another round sends others."""
    cases = experiment(cpu=[0, 1], rounds=2).cases()
    seeds = {number: {case.load.seed for case in cases if case.round == number} for number in (1, 2)}
    assert [1, 1] == [len(found) for found in seeds.values()]
    assert seeds[1] != seeds[2]


PLAN = """
import json
from pytest_aefm.experiment import from_options
options = {"app": "hotel", "script": "s.lua", "rate": [5, 7, 11, 0.5], "duration": 60, "cpu": [0, 1, 2], "rounds": 2,
           "factors": {"payload": ["x", "y"]}, "order": ORDER}
cases = from_options(options, where="w", name="n").cases(seed=42)
print(json.dumps([(case.id, case.load.seed) for case in cases]))
"""


@pytest.mark.parametrize("order", ["blocks", "randomised"])
def test_another_process_finds_the_same_cases(order: str) -> None:
    """Ids, order and seeds are equal in processes that hash strings differently."""
    plans = []
    for hash_seed in ("0", "1", "4242"):
        script = PLAN.replace("ORDER", repr(order))
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            text=True,
        )
        plans.append(json.loads(done.stdout))
    assert 48 == len(plans[0])
    assert plans[0] == plans[1] == plans[2]


def test_excluded_cases_are_dropped() -> None:
    """A case that matches all keys of one entry is left out, all others stay."""
    found = experiment(cpu=[0, 1, 2], rate=[100, 200, 400], exclude=[{"cpu": 2, "workload": [200, 400]}, {"cpu": [0]}])
    points = {(case.factors["cpu"], case.factors["rate"]) for case in found.cases()}
    assert {(1, 100), (1, 200), (1, 400), (2, 100)} == points


def test_true_is_not_one_in_exclude() -> None:
    """A truth value and a number are different values of a factor."""
    found = experiment(rate=5, factors={"cached": [True, 1, "x"]}, exclude=[{"cached": 1}])
    assert [True, "x"] == [case.factors["cached"] for case in found.cases()]


@pytest.mark.parametrize(
    ("options", "repeats"),
    [
        ({"rounds": 3}, "interleaved"),
        ({"rounds": 3, "rate": 5}, "adjacent"),
        ({"rounds": 3, "orders": ["round", "rate"]}, "adjacent"),
        ({"rounds": 3, "orders": ["rate", "round"]}, "interleaved"),
        ({"rounds": 3, "order": "randomised"}, "interleaved"),
        ({"rounds": 1}, None),
        ({}, None),
    ],
)
def test_the_kind_of_repeats_is_known(options: Mapping[str, Any], repeats: str | None) -> None:
    """Repeats are adjacent where no other point runs between them, else interleaved; a single round has none."""
    assert repeats == experiment(**options).repeats


def test_level_zero_is_no_disturbance() -> None:
    """A kind at level 0 has no spec; the others have the size that was configured."""
    configs = {"cpu": {"cpu_size": 0.5}}
    assert (InterferenceSpec("cpu", 2, cpu_size=0.5),) == interference_specs({"cpu": 2, "network": 0}, configs)


def test_ids_that_case_folding_makes_equal_are_refused() -> None:
    """Two values whose ids differ only by case are refused by name: some file systems cannot tell them apart."""
    with pytest.raises(ConfigurationError) as refused:
        experiment(factors={"payload": ["Small", "small"]})
    assert (
        "test_hotel.py::test_search: factors.payload[1]: 'Small' and 'small' are both 'payloadsmall' in the ids of "
        "cases; expected values that differ in letters, digits or one of _.+-"
    ) == str(refused.value)


def test_ids_that_factors_make_equal_together_are_refused() -> None:
    """Two combinations that are spelled alike are refused, naming both."""
    found = experiment(rate=5, factors={"a": ["1", "1-b1"], "b": ["1", "1-b1"]})
    with pytest.raises(ConfigurationError, match="two cases have the id 'hotel-a1-b1-b1-5rps'"):
        found.cases()


def test_ids_too_long_for_a_file_name_are_refused() -> None:
    """An id that no file could be named after is refused."""
    with pytest.raises(ConfigurationError, match="longer than 180 characters"):
        experiment(factors={"payload": "x" * 200}).cases()


@pytest.mark.parametrize("order", ["blocks", "randomised", "cost"])
def test_ten_thousand_cases_are_quick(order: str) -> None:
    """A matrix of 10,000 cases is read and ordered in well under two seconds."""
    begin = time.process_time()
    cases = experiment(rate=range(1, 101), cpu=range(10), rounds=10, order=order).cases()
    assert 10_000 == len(cases)
    assert time.process_time() - begin < 2
