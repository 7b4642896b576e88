"""The command ``aefm``: what is better done outside a test run."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pytest_aefm import __version__
from pytest_aefm.errors import AefmError

__all__ = ["command_parser", "main"]

T = TypeVar("T")


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="aefm", description="Microservice performance experiments (pytest-aefm).")
    parser.add_argument("--version", action="version", version=f"pytest-aefm {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    report = commands.add_parser("report", help="rebuild the JSON report from a journal")
    report.add_argument("--from-journal", required=True, type=Path, metavar="FILE", help="journal.jsonl of a run")
    report.add_argument("--output", type=Path, metavar="FILE", help="where to write it (default: standard output)")
    commands.add_parser("schema", help="print the JSON Schema of an experiment's YAML, for editors")
    doctor = commands.add_parser("doctor", help="say what would make trials broken or invalid, and what mends it")
    _add_cluster(doctor, "look at this cluster, too (without NAME: the current context's)", nargs="?", const="")
    doctor.add_argument("--namespace", metavar="NAME", help="namespace that all runs use (default: one for each run)")
    for name, whose in (("prometheus", "Prometheus"), ("jaeger", "Jaeger"), ("tempo", "Tempo")):
        doctor.add_argument(f"--{name}", metavar="URL", help=f"the cluster's {whose} (default: none is asked)")
    doctor.add_argument("--otlp", metavar="URL", help="where services send traces (default: nowhere)")
    manifests = commands.add_parser("manifests", help="print what an experiment would apply to a Kubernetes cluster")
    manifests.add_argument("experiment", type=Path, metavar="EXPERIMENT", help="YAML file of the experiment")
    manifests.add_argument("--run", default="preview", metavar="ID", help="the run's id in labels (default: preview)")
    manifests.add_argument("--namespace", metavar="NAME", help="namespace (default: the experiment's, or aefm-APP-ID)")
    manifests.add_argument("--image", metavar="IMAGE", help="image of a topology's services (default: app_img)")
    manifests.add_argument("--otlp", metavar="URL", help="where a topology's services send traces (default: nowhere)")
    traces = commands.add_parser("traces", help="say what files of traces tell: services, calls, critical paths")
    traces.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="Jaeger JSON or OTLP JSON, or a folder of it"
    )
    form = traces.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_const", const="json", dest="form", default="table", help="all as JSON")
    form.add_argument("--csv", action="store_const", const="csv", dest="form", help="all as one table, a figure a row")
    rbac = commands.add_parser("rbac", help="print the account and the role that runs on a Kubernetes cluster need")
    rbac.add_argument("--namespace", metavar="NAME", help="namespace that all runs use (default: one for each run)")
    clean = commands.add_parser("clean", help="remove what runs left on a Kubernetes cluster that do not live any more")
    _add_cluster(clean, "context of the kubeconfig (default: its current one)")
    clean.add_argument("--run", metavar="ID", help="run whose objects are removed (default: all that do not live)")
    clean.add_argument("--namespace", metavar="NAME", help="only what is in this namespace (default: all of it)")
    clean.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    mesh = commands.add_parser("mesh", help="look at a topology file, or serve it")
    mesh_commands = mesh.add_subparsers(dest="mesh_command", required=True, metavar="COMMAND")
    check = mesh_commands.add_parser("check", help="check it, print who calls whom and how much each service carries")
    check.add_argument("file", type=Path, metavar="FILE", help="topology file")
    run = mesh_commands.add_parser("run", help="serve it on this machine until Ctrl-C")
    run.add_argument("file", type=Path, metavar="FILE", help="topology file")
    run.add_argument("--port", type=int, default=0, metavar="PORT", help="port of its entry (default: a free one)")
    run.add_argument(
        "--otlp", metavar="URL", help="where traces go: http://127.0.0.1:4318/v1/traces (default: nowhere)"
    )
    _add_interfere(commands.add_parser("interfere", help="disturb nodes of a Kubernetes cluster for a while, by hand"))
    return parser


def _add_interfere(parser: argparse.ArgumentParser) -> None:
    for kind in ("cpu", "mem-capacity", "mem-bandwidth", "network"):
        what = "streams from each node to the next" if kind == "network" else f"stressors of kind {kind} on each node"
        parser.add_argument(f"--{kind}", default="0", metavar="N", help=f"{what} (default: 0)")
    parser.add_argument("--cpu-size", default="1", metavar="CORES", help="cores of one stressor (default: 1)")
    parser.add_argument("--mem-size", default="200Mi", metavar="SIZE", help="memory of one stressor (default: 200Mi)")
    parser.add_argument("--throughput", default="100M", metavar="BITS", help="of one stream, per s (default: 100M)")
    parser.add_argument("--nodes", default="", metavar="A,B", help="default: those labelled aefm.dev/testbed=true")
    parser.add_argument("--for", default="60s", metavar="TIME", dest="duration", help="how long (default: 60s)")
    parser.add_argument("--image", metavar="IMAGE", help="has stress-ng and iperf3: see docker/interference.Dockerfile")
    _add_cluster(parser, "context of the kubeconfig (default: its current one)")
    parser.add_argument("--namespace", metavar="NAME", help="namespace that is there (default: one of its own)")
    parser.add_argument("--lease-namespace", metavar="NAME", help="where runs take turns (default: aefm-system)")
    parser.add_argument("--allow-shared", action="store_true", help="also on nodes where pods of others run")
    parser.add_argument("--wait", default="0s", metavar="TIME", help="for a run that uses the cluster (default: 0s)")


def _add_cluster(parser: argparse.ArgumentParser, context: str, **more: Any) -> None:
    """Add the options that say which cluster is meant."""
    parser.add_argument("--context", metavar="NAME", help=context, **more)
    kubeconfig = "file to reach the cluster by (default: KUBECONFIG, ~/.kube/config, the pod's account)"
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help=kubeconfig)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0, or 1 after printing what is wrong (doctor: what is bad)."""
    chosen = command_parser().parse_args(arguments)
    try:
        if chosen.command == "report":
            _report(chosen.from_journal, chosen.output)
        elif chosen.command == "doctor":
            return _doctor(chosen)
        elif chosen.command == "manifests":
            _manifests(chosen)
        elif chosen.command == "rbac":
            _rbac(chosen.namespace)
        elif chosen.command == "clean":
            return _clean(chosen)
        elif chosen.command == "interfere":
            return _interfere(chosen)
        elif chosen.command == "mesh":
            _mesh(chosen)
        elif chosen.command == "traces":
            _traces(chosen)
        else:
            _schema()
    except AefmError as error:
        print(f"aefm: {error}", file=sys.stderr)
        return 1
    return 0


def _report(journal: Path, output: Path | None) -> None:
    from pytest_aefm.journal import read_journal
    from pytest_aefm.report import Report, write_report

    report = Report()
    for message in read_journal(journal):
        report.apply(message)
    document = report.document()
    if output is None:
        print(json.dumps(document, indent=1))
    else:
        write_report(output, document)


def _schema() -> None:
    from pytest_aefm.experiment import json_schema

    print(json.dumps(json_schema(), indent=1))


def _doctor(chosen: argparse.Namespace) -> int:
    """Print what was found; 1 where something is bad."""
    from pytest_aefm.doctor import examine
    from pytest_aefm.options import ClusterOptions

    names = ("kubeconfig", "namespace", "prometheus", "jaeger", "tempo", "otlp")
    named = {name: getattr(chosen, name) for name in names}
    cluster = None
    if chosen.context is not None or any(value is not None for value in named.values()):
        cluster = ClusterOptions(context=chosen.context or None, **named)
    states = []
    for finding in examine(cluster):
        states.append(finding.state)
        print(f"{finding.state:4}  {finding.subject}: {finding.found}")
        if finding.mend:
            print(f"      -> {finding.mend}")
    return int("bad" in states)


def _mesh(chosen: argparse.Namespace) -> None:
    from pytest_aefm.mesh.topology import load_topology

    topology = load_topology(chosen.file)
    if chosen.mesh_command == "run":
        from pytest_aefm.testbeds.local_serving import serve

        serve(topology, Path.cwd() / ".aefm", port=chosen.port, otlp_endpoint=chosen.otlp, tell=_say)
        return
    from pytest_aefm.mesh.summary import summary

    for line in summary(topology):
        print(line)


def _traces(chosen: argparse.Namespace) -> None:
    from pytest_aefm.traces_command import show_traces

    show_traces(chosen.files, chosen.form)


def _say(text: str) -> None:
    print(text, flush=True)


def _rbac(namespace: str | None) -> None:
    from pytest_aefm.testbeds.kubernetes.permissions import rbac_manifests

    print(rbac_manifests(namespace), end="")


def _clean(chosen: argparse.Namespace) -> int:
    """Print what is removed; 1 where something sticks."""
    from pytest_aefm.testbeds.kubernetes.cleaning import clean
    from pytest_aefm.testbeds.kubernetes.connection import connect

    with connect(chosen.kubeconfig, chosen.context) as connection:
        cleaned = clean(connection, chosen.run, chosen.namespace, dry_run=chosen.dry_run, tell=print)
    for owner in cleaned.spared:
        print(f"spared: {owner} lives")
    for item in cleaned.found:
        print(f"{'would remove' if chosen.dry_run else 'deleted'}: {item}")
    for problem in cleaned.sticks:
        print(f"sticks: {problem}", file=sys.stderr)
    if not cleaned.found:
        print("nothing to remove")
    return int(bool(cleaned.sticks))


def _interfere(chosen: argparse.Namespace) -> int:
    """Print the doses; 1 where one was not delivered."""
    from pytest_aefm.experiment.quantities import cores, duration_s, level, positive_duration_s, size_bytes, throughput
    from pytest_aefm.model import InterferenceSpec
    from pytest_aefm.options import ClusterOptions
    from pytest_aefm.testbeds.kubernetes.interfering import interfere

    size = _option(cores, "--cpu-size", chosen.cpu_size), _option(size_bytes, "--mem-size", chosen.mem_size)
    rate = _option(throughput, "--throughput", chosen.throughput)
    specs = [
        InterferenceSpec(kind, _option(level, f"--{kind.replace('_', '-')}", getattr(chosen, kind)), *size, more)
        for kind, more in (("cpu", None), ("mem_capacity", None), ("mem_bandwidth", None), ("network", rate))
    ]
    options = ClusterOptions(
        kubeconfig=chosen.kubeconfig,
        context=chosen.context,
        namespace=chosen.namespace,
        lease_namespace=chosen.lease_namespace,
        wait_s=_option(duration_s, "--wait", chosen.wait),
        allow_shared=chosen.allow_shared,
        stress_image=chosen.image,
    )
    nodes = [name.strip() for name in chosen.nodes.split(",") if name.strip()]
    seconds = _option(positive_duration_s, "--for", chosen.duration)
    doses = interfere(options, specs, nodes, seconds, _say)
    for dose in doses:
        print(f"{'ok  ' if dose.ok else 'bad '}  {dose.message}")
    return int(not all(dose.ok for dose in doses))


def _option(read: Callable[[Any], T], name: str, text: str) -> T:
    """Read an option's value as an experiment's file would have it."""
    import yaml

    from pytest_aefm.errors import ConfigurationError
    from pytest_aefm.experiment.quantities import Wrong

    try:
        return read(yaml.safe_load(text))
    except (Wrong, yaml.YAMLError) as error:
        raise ConfigurationError(name, getattr(error, "what", f"got {text!r}")) from None


def _manifests(chosen: argparse.Namespace) -> None:
    """Print the manifests of an experiment as they would be applied."""
    from pytest_aefm.experiment import load
    from pytest_aefm.mesh.calibrate import calibrate
    from pytest_aefm.mesh.program import find_mesh
    from pytest_aefm.testbeds.kubernetes.application import (
        default_namespace,
        find_manifests,
        find_topology,
        prepared,
    )
    from pytest_aefm.testbeds.kubernetes.manifests import dump
    from pytest_aefm.testbeds.kubernetes.mesh import MeshOptions

    experiment = load(chosen.experiment)
    app, folders = experiment.app, [chosen.experiment.parent, Path.cwd()]
    manifests, topology, mesh = find_manifests(app, folders), None, None
    if manifests is None:
        topology = find_topology(app, folders)
        image = chosen.image or app.image
        if image is None:
            raise experiment.error("app", "the image of its services is not known", None, "name it with --image")
        rate = calibrate(find_mesh(), Path.cwd() / ".aefm").iterations_per_us
        mesh = MeshOptions(image, rate, otlp_endpoint=chosen.otlp, node_port=app.port)
    namespace = chosen.namespace or app.namespace or default_namespace(app.name, chosen.run)
    nodes = [(node.name, node.roles) for node in experiment.cluster.nodes]
    edited = prepared(app, manifests, topology=topology, mesh=mesh, namespace=namespace, run=chosen.run, nodes=nodes)
    print(dump(edited), end="")
