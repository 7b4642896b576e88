"""The shape of an experiment, as pydantic models: which keys there are, and what each means.

Values are read by ``fields``; what concerns several keys at once is decided when the experiment is built.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Tag, model_validator

from pytest_aefm.errors import did_you_mean
from pytest_aefm.experiment.fields import (
    Abort,
    Bytes,
    Cores,
    Count,
    Distribution,
    Document,
    Duration,
    Exclude,
    Flag,
    Levels,
    Metrics,
    Milliseconds,
    Order,
    Orders,
    PodMemory,
    Port,
    PositiveCount,
    PositiveDuration,
    Precision,
    Queries,
    Rate,
    Rates,
    RoundNumbers,
    Rounds,
    Schedule,
    Script,
    Share,
    SLOs,
    Tags,
    Text,
    Throughput,
    Values,
    refusal,
)
from pytest_aefm.experiment.quantities import Wrong

__all__ = ["ExperimentFile", "Options", "json_schema"]

_ELSEWHERE = {"workload": "rate", "round": "rounds", "interferences": "interference"}
"""Names that are right in another place."""


class Strict(BaseModel):
    """A mapping whose keys are known; ``may_be_empty`` names those that may stand there without a value."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    may_be_empty: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        """Refuse unknown keys with the nearest right one, which pydantic itself does not tell."""
        if not isinstance(value, Mapping):
            raise refusal(Wrong.expected("a mapping with " + _listed(cls.model_fields), value))
        for key in value:
            if cls.model_config.get("extra") != "allow" and key not in cls.model_fields:
                raise refusal(Wrong("unknown key", (key,), _nearest(key, cls.model_fields)))
            if value[key] is None and key not in cls.may_be_empty:
                raise refusal(Wrong("expected a value, got nothing", (key,)))
        return {key: item for key, item in value.items() if item is not None}


def _listed(names: Mapping[str, Any]) -> str:
    shown = list(names)
    return ", ".join(shown[:5]) + (", ..." if len(shown) > 5 else "")


def _nearest(key: Any, known: Mapping[str, Any]) -> str | None:
    if _ELSEWHERE.get(key if isinstance(key, str) else "") in known:
        return f"did you mean {_ELSEWHERE[key]!r}?"
    return did_you_mean(str(key), known) or f"expected one of {', '.join(known)}"


class InterferenceConfig(Strict):
    """The size of one stressor."""

    cpu_size: Cores | None = None
    """Cores of one stressor: 1, 0.5 or 500m."""
    mem_size: Bytes | None = None
    """Memory of one stressor: 200Mi."""
    throughput: Throughput | None = None
    """Bits per second of one iperf3 stream: 100M. For network only."""


class BandwidthConfig(InterferenceConfig):
    """The size of one stressor of the memory's bandwidth."""

    dram: Flag | None = None
    """Whether its arrays outgrow the last-level cache; by default they take 50 MB."""


class FaultConfig(Strict):
    """What a fault of level 1 does to a service; a higher level does as many times as much."""

    service: Text
    """The service of the topology."""
    delay_ms: Milliseconds | None = None
    """How much longer each of its requests takes: 30."""
    fail_rate: Share | None = None
    """Share of its requests that are answered 503: 0.01."""


class ChaosConfig(Strict):
    """What Chaos Mesh does at a level."""

    manifest: Document
    """StressChaos and NetworkChaos objects as YAML text, in which `$level` and `$namespace` are filled in."""


def _form_of_fault(value: Any) -> str:
    """Tell a fault itself from its levels, which may be a range: a mapping as well."""
    return "[fault]" if isinstance(value, Mapping) and not value.keys() & {"min", "max", "step"} else "[levels]"


Faults = Annotated[
    Annotated[FaultConfig, Tag("[fault]")] | Annotated[Levels, Tag("[levels]")], Discriminator(_form_of_fault)
]


class Interference(Strict):
    """The size of the stressors of each kind."""

    cpu: InterferenceConfig | None = None
    """Stressors of the processor."""
    mem_capacity: InterferenceConfig | None = None
    """Stressors of the memory's size."""
    mem_bandwidth: BandwidthConfig | None = None
    """Stressors of the memory's bandwidth."""
    network: InterferenceConfig | None = None
    """Streams between nodes."""
    fault: FaultConfig | None = None
    """A fault of a service."""
    chaos: ChaosConfig | None = None
    """What Chaos Mesh does, on a cluster that has it."""


class PodSpec(Strict):
    """Requests and limits of the services under test."""

    cpu_size: Cores | None = None
    """Cores: 0.1 or 100m."""
    mem_size: PodMemory | None = None
    """Memory: 200Mi."""


class NodeEntry(Strict):
    """A node of the cluster."""

    may_be_empty: ClassVar[frozenset[str]] = frozenset({"ip"})

    name: Text
    """Its name in Kubernetes."""
    roles: list[Literal["testbed", "infra", "load"]]
    """What runs there: testbed (what is under test), infra (what that needs), load (load from inside)."""
    ip: Text | None = None
    """Its address, where it cannot be asked for."""


class FilePaths(Strict):
    """AEFM's folders; ours are found and named by themselves, ``yaml_repo`` excepted."""

    may_be_empty: ClassVar[frozenset[str]] = frozenset({"collector_data", "log", "yaml_repo", "wrk_output_path"})

    collector_data: Text | None = None
    """Without meaning here: --aefm-data names the folder of tables."""
    log: Text | None = None
    """Without meaning here."""
    yaml_repo: Text | None = None
    """Folder with infra/ and under_test/, plain Kubernetes YAML: the testbed is kubernetes."""
    wrk_output_path: Text | None = None
    """Without meaning here."""


class Options(Strict):
    """What a marker and the top level of a file can say."""

    may_be_empty: ClassVar[frozenset[str]] = frozenset(
        {"file_paths", "port", "replicas", "namespace", "app_img", "prometheus_host", "jaeger_host",
         "jaeger_entrance", "nodes", "pod_spec"}
    )  # fmt: skip

    name: Text | None = None
    """The experiment's name; by default the file's or the test's."""
    app: Text | None = None
    """The application to deploy: hotel, or the topology file of one of your own."""
    script: Script | None = None
    """The Lua script that makes the requests: hotel/search.lua."""
    rate: Rates | None = None
    """Offered requests per second in total: one, a list or a range."""
    rounds: Rounds | None = None
    """How many times each point is repeated, or the rounds' numbers."""
    cpu: Levels | None = None
    """Levels of processor interference: stressors per node, 0 for none."""
    mem_capacity: Levels | None = None
    """Levels of memory interference by size."""
    mem_bandwidth: Levels | None = None
    """Levels of memory interference by bandwidth."""
    network: Levels | None = None
    """Levels of network interference."""
    fault: Faults | None = None
    """Levels of a fault of a service; or the fault itself, `{service: rate, delay_ms: 30}`, at level 1."""
    chaos: Levels | None = None
    """Levels of what Chaos Mesh does on a cluster."""
    interference: Interference | None = None
    """The size of the stressors of each kind."""
    factors: dict[Text, Values] = {}
    """The user's own factors and their values."""
    duration: PositiveDuration | None = None
    """The measured part of a case: 40, 500ms, 5s or 1m."""
    warmup: Duration = 5.0
    """Load before the measured part."""
    timeout: PositiveDuration = 2.0
    """How long a request may take."""
    connections: PositiveCount | None = None
    """Connections in total; by default max(8, rate x 0.5 s)."""
    max_connections: PositiveCount | None = None
    """More connections are opened, up to so many, when requests are due and none is free; by default none."""
    threads: PositiveCount | None = None
    """Threads of the generator, 1 by default."""
    distribution: Distribution = "fixed"
    """How requests follow one another at that rate: evenly, as a Poisson process (exp), norm or zipf."""
    schedule: Schedule = ()
    """Steps and ramps instead of a duration at one rate, in multiples of it: 0.5x:10s, 1x..2x:60s."""
    drain: Duration | None = None
    """How long what is in flight at the end is waited for; by default the timeout."""
    tags: Tags = {}
    """Requests to be judged apart, by name: {search: 'GET /hotels*'}; a script may name its requests itself."""
    precision: Precision | None = None
    """Ends the measured part once the 95 % interval of a percentile is so narrow: p99:5%; else duration does."""
    abort: Abort | None = None
    """Ends a hopeless run, which is violated: error_rate>50%:5s."""
    requests: Flag = False
    """Whether a record of each request is kept: requests.bin among the artifacts."""
    seed: Count | None = None
    """Seed of orders and requests; by default the run's."""
    order: Order = "blocks"
    """Running order of the cases; listed where orders is given."""
    orders: Orders | None = None
    """Factors of the matrix, the innermost first; others are left out."""
    exclude: Exclude = ()
    """Cases to leave out: those that match all keys of an entry."""
    slos: SLOs = ()
    """Conditions such as p99 < 250ms, or none to judge nothing."""
    min_trace_coverage: Share = 0.0
    """Least share of the requests sent that must have a trace: below it SLOs on traces have no data."""
    metrics: Metrics = {}
    """Metrics of your own, for SLOs and the report: PromQL by name; nothing where a collector of yours gives it."""
    queries: Queries = {}
    """What replaces a testbed's own query of Prometheus: a selector of raw samples by the query's name."""
    testbed: Literal["local", "kubernetes"] = "local"
    """Where the application runs; kubernetes where nodes or yaml_repo is given."""
    mutates: Flag = False
    """Whether the script changes the application's data; without it, whether the script says ``mutates = true``."""
    file_paths: FilePaths | None = None
    """AEFM's folders."""
    port: Port | None = None
    """Entry port of the application on a cluster."""
    replicas: dict[Text, Count] = {}
    """Replicas by service."""
    namespace: Text | None = None
    """Namespace of the application on a cluster."""
    app_img: Text | None = None
    """Image that replaces APP_IMG."""
    prometheus_host: Text | None = None
    """Prometheus of the cluster."""
    jaeger_host: Text | None = None
    """Jaeger of the cluster."""
    jaeger_entrance: Text | None = None
    """The service at which traces enter."""
    nodes: list[NodeEntry] = []
    """Nodes of the cluster."""
    pod_spec: PodSpec | None = None
    """Requests and limits of the services under test."""


class WorkloadConfigs(Strict):
    """One generator of AEFM, of which there were as many as the rate needed."""

    may_be_empty: ClassVar[frozenset[str]] = frozenset({"url"})

    threads: PositiveCount | None = None
    """Threads of the generator."""
    connections: PositiveCount | None = None
    """Connections of one generator."""
    rate: Rate | None = None
    """Requests per second of one generator."""
    script: Script | None = None
    """The Lua script that makes the requests."""
    url: Text | None = None
    """Entry of the application on a cluster."""


class Workload(Strict):
    """The load's factor, called rate elsewhere."""

    configs: WorkloadConfigs | None = None
    """One generator."""
    range: Rates | None = None
    """Offered requests per second in total."""


class InterferenceFactor(Strict):
    """One kind of interference and its levels."""

    configs: InterferenceConfig | None = None
    """The size of one stressor."""
    range: Levels
    """Stressors per node."""


class BandwidthFactor(InterferenceFactor):
    """Interference on the memory's bandwidth, and its levels."""

    configs: BandwidthConfig | None = None
    """The size of one stressor."""


class Interferences(Strict):
    """Kinds of interference."""

    cpu: InterferenceFactor | None = None
    """Interference on the processor."""
    mem_capacity: InterferenceFactor | None = None
    """Interference on the memory's size."""
    mem_bandwidth: BandwidthFactor | None = None
    """Interference on the memory's bandwidth."""
    network: InterferenceFactor | None = None
    """Interference on the network."""


class TestCases(Strict):
    """AEFM's matrix; a key that is not named here is a factor of the user's own."""

    __test__: ClassVar[bool] = False
    __pydantic_extra__: dict[str, Values]
    model_config = ConfigDict(extra="allow")
    may_be_empty: ClassVar[frozenset[str]] = frozenset({"interferences"})

    orders: Orders | None = None
    """Factors of the matrix, the innermost first; others are left out."""
    round: RoundNumbers | None = None
    """The rounds' numbers: a list or a range."""
    workload: Workload | None = None
    """The load."""
    interferences: Interferences | None = None
    """Kinds of interference."""

    @model_validator(mode="before")
    @classmethod
    def _no_misspelt_factor(cls, value: Any) -> Any:
        """Refuse a factor of the user's own that looks like a key, unless ``orders`` names it."""
        if not isinstance(value, Mapping):
            return value
        orders = value.get("orders")
        for key in value:
            if not isinstance(key, str):
                raise refusal(Wrong.expected("the name of a factor", key, (key,)))
            if key in cls.model_fields or (isinstance(orders, list) and key in orders):
                continue
            near = difflib.get_close_matches(key, cls.model_fields, n=1, cutoff=0.75)
            if near:
                hint = f"did you mean {near[0]!r}? If it is a factor of your own, name it in orders"
                raise refusal(Wrong("unknown key", (key,), hint))
        return value


class ExperimentFile(Options):
    """An experiment of pytest-aefm, in AEFM's format or with its factors at the top level."""

    test_cases: TestCases | None = None
    """AEFM's matrix."""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of an experiment file, for editors."""
    schema = _plain(ExperimentFile.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "pytest-aefm experiment"}


def _plain(schema: Any) -> Any:
    """Drop what only Python means: titles made of names, defaults of None, the choice of null."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    forms = [form for form in schema.get("anyOf", []) if form != {"type": "null"}]
    kept = {key: item for key, item in schema.items() if key != "anyOf" and not (key == "default" and item is None)}
    if isinstance(kept.get("title"), str):
        del kept["title"]
    joined = {**kept, **(forms[0] if len(forms) == 1 else {"anyOf": forms} if forms else {})}
    return {key: _plain(item) for key, item in joined.items()}
