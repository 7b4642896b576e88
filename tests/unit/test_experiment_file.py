"""Experiments from YAML: AEFM's format, our own, and what the text itself can have wrong."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_aefm.errors import ConfigurationError
from pytest_aefm.experiment import Cluster, Factor, Node, load
from pytest_aefm.model import AppSpec, InterferenceSpec
from pytest_aefm.slo import DEFAULT_SLOS

DATA = Path(__file__).parent / "data"

MINIMAL = "app: hotel\nscript: hotel/search.lua\nrate: 20\nduration: 60\n"


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a path to write an experiment to, which messages call hotel.yaml."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hotel.yaml"


def refusal(path: Path, text: str | bytes) -> str:
    """Return the message with which a file of this text is refused."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError) as refused:
        load(path).cases()
    return str(refused.value)


def test_aefm_files_load_unchanged() -> None:
    """AEFM 0.2.0's file keeps its meaning: application, cluster, load and stressors."""
    found = load(DATA / "aefm-social.yaml")
    assert "aefm-social" == found.name
    assert "kubernetes" == found.testbed
    assert (
        AppSpec(
            "social",
            replicas={"user-timeline-service": 4, "post-storage-service": 4},
            pod_spec={"cpu_size": 0.1, "mem_size": "200Mi"},
            namespace="social-network",
            image="nicklin9907/aefm:social-1.1",
            manifests="$MODULE_DEFAULT/social",
            port=30628,
        )
        == found.app
    )
    assert "social/read-home-timeline.lua" == found.script
    assert (
        Cluster(
            (Node("06-worker", ("testbed", "infra"), "1.2.3.4"), Node("07-worker", ("testbed",))),
            "http://localhost:30090",
            "http://localhost:30094",
            "nginx-web-server",
            "http://localhost:30628",
        )
        == found.cluster
    )
    assert (40, 5, 2) == (found.load.duration_s, found.load.warmup_s, found.load.timeout_s)
    assert DEFAULT_SLOS == tuple(str(slo) for slo in found.slos)


def test_aefm_files_plan_unchanged() -> None:
    """AEFM's orders are its loops, the first innermost; each case has its stressors."""
    cases = load(DATA / "aefm-social.yaml").cases()
    loops = itertools.product(range(1, 11), (1, 2), (1, 2), (1, 2))
    expected = [{"cpu": cpu, "mem_capacity": size, "round": nr, "rate": rate} for cpu, size, nr, rate in loops]
    assert expected == [case.factors for case in cases]
    assert "social-cpu10-mem_capacity2-2rps-r2" == cases[-1].id
    assert (
        InterferenceSpec("cpu", 10, 1.0, 200 * 2**20),
        InterferenceSpec("mem_capacity", 2, 0.01, 4 * 2**30),
    ) == cases[-1].interference


def test_what_orders_leaves_out_is_noted() -> None:
    """A factor that orders does not name is left out, as in AEFM, and the experiment says so."""
    notes = load(DATA / "aefm-social.yaml", shown="social.yaml").notes
    left = ("mem_bandwidth", "network", "sample_customize")
    assert tuple(f"{name} is left out: orders does not name it (social.yaml:17)" for name in left) == notes


@pytest.mark.parametrize(("rate", "connections"), [(1, 2), (20, 2), (30, 4), (40.5, 6)])
def test_connections_are_those_of_all_of_aefms_generators(rate: float, connections: int, written: Path) -> None:
    """AEFM's connections are of one generator of configs.rate; ours are the total, the last one filled up."""
    written.write_text(
        f"app: social\nduration: 9\ntest_cases:\n  workload: {{range: [{rate}],"
        " configs: {connections: 2, rate: 20, script: s.lua}}\n"
    )
    assert connections == load(written).cases()[0].load.connections


@pytest.mark.parametrize(("rate", "connections"), [(1, 8), (16, 8), (17, 9), (200, 100)])
def test_connections_hold_half_a_second_of_requests(rate: int, connections: int, written: Path) -> None:
    """Without configuration there is 1 thread and max(8, rate x 0.5 s) connections."""
    written.write_text(MINIMAL.replace("20", str(rate)))
    found = load(written).cases()[0].load
    assert (1, connections) == (found.threads, found.connections)


def test_our_own_keys_stand_at_the_top_level() -> None:
    """A file without test_cases says the same with keys of the marker."""
    found = load(DATA / "hotel.yaml")
    assert ("hotel search", "local", 7, "blocks") == (found.name, found.testbed, found.seed, found.order)
    assert (
        Factor("cpu", (0, 1)), Factor("payload", ("small", "large")), Factor("rate", (20, 40)), Factor("round", (1, 2)),
    ) == found.factors  # fmt: skip
    cases = found.cases()
    assert 14 == len(cases)
    assert "hotel-cpu1-payloadsmall-40rps-r1" == cases[0].id
    assert (InterferenceSpec("cpu", 1, 0.5, 100 * 2**20),) == cases[0].interference
    assert (2, 16, 5, 2) == (
        cases[0].load.threads, cases[0].load.connections, cases[0].load.duration_s, cases[0].load.warmup_s,
    )  # fmt: skip
    assert ("p50 < 250ms", "goodput >= 95%", *DEFAULT_SLOS[1:]) == tuple(str(slo) for slo in cases[0].slos)


def test_no_slos_is_said_aloud(written: Path) -> None:
    """``slos: none`` judges nothing, and the experiment says so."""
    written.write_text(MINIMAL + "slos: none\n")
    found = load(written)
    assert ((), False) == (found.slos, found.judged)


@pytest.mark.parametrize(
    ("lines", "testbed"),
    [
        ("", "local"),
        ("nodes: [{name: a, roles: [testbed]}]", "kubernetes"),
        ("nodes: []", "local"),
        ("file_paths: {yaml_repo: here}", "kubernetes"),
        ("file_paths: {log: here}", "local"),
        ("file_paths: {yaml_repo: here}\ntestbed: local", "local"),
    ],
)
def test_nodes_or_manifests_mean_kubernetes(lines: str, testbed: str, written: Path) -> None:
    """An experiment with nodes or yaml_repo is for a cluster, unless it says otherwise."""
    written.write_text(MINIMAL + lines)
    assert testbed == load(written).testbed


def test_empty_keys_of_aefm_are_accepted(written: Path) -> None:
    """AEFM's optional keys may stand there without a value."""
    written.write_text(MINIMAL + "replicas:\nprometheus_host:\nnodes:\nport:\n")
    assert AppSpec("hotel") == load(written).app


def test_the_name_is_that_of_the_file(written: Path) -> None:
    """Without a name the experiment is called as its file, less .aefm.yaml."""
    path = written.with_name("shop-1.2.aefm.yaml")
    path.write_text(MINIMAL)
    assert ("shop-1.2", path) == (load(path).name, load(path).source)


def test_anchors_and_merge_keys_work(written: Path) -> None:
    """Anchors, aliases and ``<<`` mean what they mean in YAML; a mapping's own keys go first."""
    written.write_text(
        MINIMAL
        + "cpu: &levels [0, 1]\nmem_capacity: *levels\n"
        + "interference:\n  cpu: &size {cpu_size: 1, mem_size: 1Gi}\n  mem_capacity: {<<: *size, cpu_size: 0.5}\n"
    )
    found = load(written)
    assert {"cpu_size": 0.5, "mem_size": 2**30} == found.interference["mem_capacity"]
    assert (0, 1) == found.factors[1].values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "hotel.yaml:1: the file is empty; expected an experiment such as 'app: hotel'"),
        ("# nothing\n", "hotel.yaml:1: the file is empty"),
        ("- 1\n", "hotel.yaml:1: expected a mapping"),
        ("app: hotel\n\tscript: x\n", "hotel.yaml:2: not YAML: "),
        ("app: [hotel\nscript: x\n", "hotel.yaml:2: not YAML: "),
        ("app: hotel\n---\napp: x\n", "hotel.yaml:2: not YAML: expected a single document"),
        ("app: *none\n", "hotel.yaml:1: not YAML: found undefined alias"),
        ("app: hotel\nrate: 1\napp: social\n", "hotel.yaml:3: app: the key is given twice, first in line 1"),
        ("app: hotel\n[1, 2]: x\n", "hotel.yaml:2: a key is a list or a mapping"),
        ("app: !!python/object:os.system x\n", "hotel.yaml:1: app: could not determine a constructor"),
        ("app: !shop {a: 1}\n", "hotel.yaml:1: app: the tag '!shop' has no meaning here"),
        ("app: a\nrate: !!int many\n", "hotel.yaml:2: rate: 'many' cannot be read"),
        ("app: a\nname: 2024-13-45\n", "hotel.yaml:2: name: '2024-13-45' cannot be read"),
        ("app: a\nfactors: &f {x: [*f]}\n", "hotel.yaml:2: factors.x[0]: the value contains itself"),
        ("a: &a {<<: *a}\n", "hotel.yaml:1: a: '<<' goes round in circles"),
        ("app: hotel\n<<: 3\n", "hotel.yaml:2: '<<' takes a mapping or a list of mappings"),
        ("app: " + "[" * 5000, "hotel.yaml:1: values are nested too deeply"),
        (b"app: hotel\nname: \xff\n", "hotel.yaml:2: the text is not UTF-8"),
        (b"app: hotel\nname: \x07\n", "hotel.yaml:2: not YAML: special characters are not allowed"),
        ('app: "\\ud800"\n', "hotel.yaml:1: app: "),
    ],
)
def test_bad_yaml_is_refused_with_its_line(text: str | bytes, message: str, written: Path) -> None:
    """What is wrong with the text itself is told with file and line, not with a traceback."""
    assert message == refusal(written, text)[: len(message)]


def test_aliases_cannot_multiply_without_end(written: Path) -> None:
    """A small file whose aliases stand for billions of values is refused at once."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "more than 200000 values" in refusal(written, "\n".join(lines))


def test_a_missing_file_is_refused(written: Path) -> None:
    """A file that is not there is named, with the system's reason."""
    with pytest.raises(ConfigurationError) as refused:
        load(written)
    assert "hotel.yaml: cannot be read: No such file or directory" == str(refused.value)


def test_importing_the_room_is_cheap() -> None:
    """Neither pytest nor pydantic is imported before an experiment is read."""
    script = (
        "import sys, pytest_aefm.experiment\n"
        "print(sorted({'pytest', 'pydantic', 'requests', 'kubernetes'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert "[]\n" == done.stdout
