"""Options and ini values, read once into one frozen Settings that lives in ``config.stash``."""

from __future__ import annotations

import math
import os
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pytest_aefm.options import ClusterOptions

__all__ = ["SETTINGS", "Settings", "add_options", "read_settings", "refuse_unwritable", "settings_of"]

# name, default, help: each is an option (--aefm-NAME) and an ini value (aefm_NAME).
_OPTIONS = (
    ("report", "aefm-report.json", "file of the JSON report"),
    ("journal", "", "file of the journal, one JSON message a line (default: in the run's folder under .aefm/runs)"),
    ("data", "", "folder that takes the tables of every trial, AEFM's and more (default: they are not kept)"),
    ("data-format", "csv", "format of these tables: csv, or parquet (needs the extra frames)"),
    ("testbed", "", "testbed to use, 'local' or 'kubernetes' (default: what the experiment says)"),
    ("confidence", "0.95", "confidence at which percentile SLOs are decided; 0 judges the point value"),
    ("inconclusive", "fail", "what an inconclusive verdict does to the test: fail, warn or pass"),
    (
        "wrk",
        "",
        "load generator to use: a path or a name on PATH, aefm-wrk or wrk2 (default: the bundled aefm-wrk, else wrk2)",
    ),
    ("seed", "", "seed of the order of cases and of the load (default: the experiment's, else a new one for each run)"),
    (
        "ready-timeout",
        "",
        "seconds an application may take to get ready (default: 60 for a service of the local testbed, 300 on a "
        "cluster)",
    ),
    ("collect-timeout", "60", "seconds that collectors may take after a load, all together"),
    ("collect-memory", "2048", "MiB by which this process may grow while they do"),
    ("context", "", "cluster: context of the kubeconfig (default: its current one)"),
    (
        "kubeconfig",
        "",
        "cluster: file to reach it by (default: KUBECONFIG, ~/.kube/config, the pod's account)",
    ),
    ("namespace", "", "cluster: namespace to use, which must exist (default: one of its own for each run)"),
    (
        "lease-namespace",
        "",
        "cluster: namespace of the lease by which runs take turns (default: --aefm-namespace, else aefm-system)",
    ),
    (
        "wait",
        "",
        "seconds to wait for a machine or cluster that another run uses (default: 1800 for this machine, counted anew "
        "whenever it changes hands; 0 for a cluster)",
    ),
    (
        "entry",
        "",
        "cluster: how it is reached: nodeport, loadbalancer or port-forward (default: as its Service is)",
    ),
    ("app-image", "", "cluster: image of a topology's services (default: the experiment's app_img)"),
    ("stress-image", "", "cluster: image of the pods that disturb; it has stress-ng and iperf3 (default: none)"),
    ("load-image", "", "cluster: image of the pods that drive the load from inside (default: none)"),
    ("load-from", "local", "cluster: where the load comes from, local (this machine) or cluster"),
    ("load-pods", "1", "cluster: how many pods drive the load from inside"),
    ("prometheus", "", "cluster: URL of its Prometheus (default: the experiment's prometheus_host)"),
    ("jaeger", "", "cluster: URL of its Jaeger's query API (default: the experiment's jaeger_host)"),
    ("tempo", "", "cluster: URL of its Tempo, asked for traces instead of a Jaeger (default: none)"),
    (
        "otlp",
        "",
        "cluster: URL to which a topology's services send traces, as pods reach it: "
        "http://jaeger.monitor:4318/v1/traces (default: they send none)",
    ),
)
_FLAGS = (
    ("observe", "judge and report, but let violated, no_data and inconclusive pass"),
    ("keep", "cluster: leave the application there for the next run"),
    ("allow-shared", "cluster: disturb nodes where pods of others run, too"),
    ("allow-forward", "cluster: let a load through a port-forward count, with a warning"),
)
_METAVARS = {
    "data": "DIR",
    "ready-timeout": "SECONDS",
    "wait": "SECONDS",
    "collect-timeout": "SECONDS",
    "collect-memory": "MIB",
    "load-pods": "N",
    "prometheus": "URL",
    "jaeger": "URL",
    "tempo": "URL",
    "otlp": "URL",
}
_ENTRIES, _ORIGINS = ("nodeport", "loadbalancer", "port-forward"), ("local", "cluster")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user asked for, and where this run keeps its files.

    ``report`` is where the copy of the report goes, ``run_dir`` the run's own folder (made when first needed),
    ``data`` is the folder of tables, None for none, ``data_format`` csv or parquet. ``wrk`` is the load generator where
    one is named, ``worker`` the xdist worker's id or None. ``ready_timeout_s`` is how long an application may take to
    get ready, ``wait_s`` how long to wait for other runs, None for the testbed's own. ``collect_timeout_s`` and
    ``collect_memory_mib`` bound all collectors of a trial together.
    With ``seed_said`` the seed stands on the command line, and goes before that of an experiment.
    """

    report: Path
    journal: Path
    testbed: str | None
    confidence: float
    inconclusive: str
    observe: bool
    plan: bool
    seed: int
    run_id: str
    run_dir: Path
    cache_dir: Path
    data: Path | None = None
    data_format: str = "csv"
    wrk: Path | None = None
    worker: str | None = None
    ready_timeout_s: float | None = None
    wait_s: float | None = None
    collect_timeout_s: float = 60.0
    collect_memory_mib: int = 2048
    seed_said: bool = False
    cluster: ClusterOptions = field(default_factory=ClusterOptions)


SETTINGS = pytest.StashKey[Settings]()


def settings_of(config: pytest.Config) -> Settings:
    """Return the settings of this run."""
    return config.stash[SETTINGS]


def add_options(parser: pytest.Parser) -> None:
    """Register every option and its ini value; each help text says the default."""
    group = parser.getgroup("aefm", "microservice performance experiments (pytest-aefm)")
    for name, default, text in _OPTIONS:
        shown = text if "(default" in text else f"{text} (default: {default})"
        group.addoption(f"--aefm-{name}", metavar=_METAVARS.get(name, name.upper()), default=None, help=shown)
        parser.addini(_ini(name), help=shown, type="string", default="")  # empty: not given
    for name, text in _FLAGS:
        group.addoption(f"--aefm-{name}", action="store_true", default=None, help=f"{text} (default: off)")
        parser.addini(_ini(name), help=f"{text} (default: off)", type="bool", default=False)
    parser.addini(
        "aefm_files",
        help="names of YAML files that are collected as tests (default: *.aefm.yaml *.aefm.yml)",
        type="args",
        default=["*.aefm.yaml", "*.aefm.yml"],
    )
    group.addoption(
        "--aefm-plan",
        action="store_true",
        default=False,
        help="print the cases in running order with what changes between them and the time they need, and run nothing",
    )


def read_settings(config: pytest.Config) -> Settings:
    """Read options and ini values.

    Raises:
        pytest.UsageError: one of them is out of range.
    """
    workerinput = getattr(config, "workerinput", {})
    run_id = workerinput.get("aefm_run_id") or time.strftime("%Y%m%d-%H%M%S") + f"-{os.getpid()}"
    cache = config.rootpath / ".aefm"
    run_dir = cache / "runs" / run_id
    inconclusive = _one_of("inconclusive", _text(config, "inconclusive"), ("fail", "warn", "pass"))
    testbed = _text(config, "testbed") or None
    if testbed not in (None, "local", "kubernetes"):
        raise pytest.UsageError(f"--aefm-testbed: unknown testbed {testbed!r}; expected local or kubernetes")
    ready = _text(config, "ready-timeout")
    return Settings(
        report=_path(config, "report"),
        journal=_path(config, "journal") if _text(config, "journal") else run_dir / "journal.jsonl",
        testbed=testbed,
        confidence=_confidence(_text(config, "confidence")),
        inconclusive=inconclusive,
        observe=_flag(config, "observe"),
        plan=bool(config.getoption("--aefm-plan")),
        seed=int(workerinput["aefm_seed"]) if "aefm_seed" in workerinput else _seed(_text(config, "seed")),
        run_id=run_id,
        run_dir=run_dir,
        cache_dir=cache,
        data=_path(config, "data") if _text(config, "data") else None,
        data_format=_one_of("data-format", _text(config, "data-format"), ("csv", "parquet")),
        wrk=_program(config, "wrk"),
        worker=workerinput.get("workerid"),
        ready_timeout_s=_number("ready-timeout", ready, 1.0) if ready else None,
        collect_timeout_s=_number("collect-timeout", _text(config, "collect-timeout"), 1.0),
        collect_memory_mib=_whole("collect-memory", _text(config, "collect-memory")),
        seed_said=config.getoption("--aefm-seed") is not None,
        wait_s=_number("wait", wait) if (wait := _text(config, "wait")) else None,
        cluster=_cluster(config),
    )


def _cluster(config: pytest.Config) -> ClusterOptions:
    entry = _text(config, "entry")
    return ClusterOptions(
        kubeconfig=_path(config, "kubeconfig") if _text(config, "kubeconfig") else None,
        context=_text(config, "context") or None,
        namespace=_text(config, "namespace") or None,
        lease_namespace=_text(config, "lease-namespace") or None,
        wait_s=_number("wait", _text(config, "wait") or "0"),
        keep=_flag(config, "keep"),
        allow_shared=_flag(config, "allow-shared"),
        allow_forward=_flag(config, "allow-forward"),
        entry=_one_of("entry", entry, _ENTRIES) if entry else None,
        app_image=_text(config, "app-image") or None,
        stress_image=_text(config, "stress-image") or None,
        load_image=_text(config, "load-image") or None,
        load_from=_one_of("load-from", _text(config, "load-from"), _ORIGINS),
        load_pods=_whole("load-pods", _text(config, "load-pods")),
        prometheus=_text(config, "prometheus") or None,
        jaeger=_text(config, "jaeger") or None,
        tempo=_text(config, "tempo") or None,
        otlp=_text(config, "otlp") or None,
    )


def refuse_unwritable(config: pytest.Config, *, by_ini: bool) -> None:
    """Find a report, journal or folder of data that cannot be written now, not after five hours.

    What the command line names is looked at once it is read; what the ini file does, only where there are cases.

    Raises:
        pytest.UsageError: one that the user named cannot be written.
    """
    settings = settings_of(config)
    if settings.data is not None and _named(config, "data", by_ini):
        _refuse_data(settings.data, settings.data_format)
    for name, path in (("report", settings.report), ("journal", settings.journal)):
        if _named(config, name, by_ini):
            from pytest_aefm.errors import ReportError
            from pytest_aefm.report import check_writable

            try:
                check_writable(path, f"--aefm-{name}")
            except ReportError as error:
                raise pytest.UsageError(str(error)) from None


def _refuse_data(folder: Path, kind: str) -> None:
    from pytest_aefm.datafiles import refuse_folder
    from pytest_aefm.errors import ReportError

    try:
        refuse_folder(folder, kind)
    except ReportError as error:
        raise pytest.UsageError(str(error)) from None


def _named(config: pytest.Config, name: str, by_ini: bool) -> bool:
    """Return whether the user named this option: in the ini file alone, or on the command line."""
    said = config.getoption(f"--aefm-{name}") is not None
    return not said and bool(config.getini(_ini(name))) if by_ini else said


def _ini(name: str) -> str:
    return f"aefm_{name}".replace("-", "_")


def _flag(config: pytest.Config, name: str) -> bool:
    option = config.getoption(f"--aefm-{name}")
    return bool(config.getini(_ini(name)) if option is None else option)


def _text(config: pytest.Config, name: str) -> str:
    option = config.getoption(f"--aefm-{name}")
    default = next(default for known, default, _ in _OPTIONS if known == name)
    return str(config.getini(_ini(name)) or default if option is None else option)


def _path(config: pytest.Config, name: str) -> Path:
    """Return a path: of the command line relative to the current folder, of the ini file to rootdir."""
    option = config.getoption(f"--aefm-{name}")
    if option is not None:
        return config.invocation_params.dir / str(option)
    return config.rootpath / _text(config, name)


def _program(config: pytest.Config, name: str) -> Path | None:
    """Return a program as a shell would find it: a name on PATH, or a path; None where none is named."""
    text = _text(config, name)
    if not text:
        return None
    if "/" in text:
        return _path(config, name)
    found = shutil.which(text)
    if found is None:
        raise pytest.UsageError(f"--aefm-{name}: {text!r} is not on PATH; expected the name of a program, or its path")
    return Path(found)


def _one_of(name: str, text: str, known: Sequence[str]) -> str:
    if text not in known:
        expected = f"{', '.join(known[:-1])} or {known[-1]}"
        raise pytest.UsageError(f"--aefm-{name}: {text!r}; expected {expected}")
    return text


def _number(name: str, text: str, least: float = 0.0) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value < math.inf:
        raise pytest.UsageError(f"--aefm-{name}: {text!r}; expected a number of seconds, {least:g} or more")
    return value


def _whole(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise pytest.UsageError(f"--aefm-{name}: {text!r}; expected a whole number, 1 or more")
    return int(text)


def _confidence(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise pytest.UsageError(f"--aefm-confidence: {text!r}; expected a number from 0 to below 1, such as 0.95")
    return value


def _seed(text: str) -> int:
    if not text:
        return random.SystemRandom().randrange(2**31)
    try:
        return int(text)
    except ValueError:
        raise pytest.UsageError(f"--aefm-seed: {text!r}; expected a whole number") from None
