"""Where metrics and traces of an application on a cluster come from, and what collects them there."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_aefm.collectors import Collector
from pytest_aefm.model import AppSpec, Case
from pytest_aefm.options import ClusterOptions
from pytest_aefm.queries import KUBERNETES, fill
from pytest_aefm.testbeds.kubernetes.node_network import NodeNetworkCollector
from pytest_aefm.testbeds.kubernetes.stage import Stage

__all__ = ["jaeger_url", "metric_collectors", "prometheus_url", "trace_collectors"]


def prometheus_url(options: ClusterOptions, app: AppSpec | None) -> str | None:
    """Return where the cluster's Prometheus is asked: as the user says, else the experiment; None if nobody does."""
    return options.prometheus or (app.cluster.prometheus_url if app else None)


def jaeger_url(options: ClusterOptions, app: AppSpec | None) -> str | None:
    """Return where traces are asked for: as the user says, else the experiment; None if nobody does."""
    return options.jaeger or (app.cluster.jaeger_url if app else None)


def trace_collectors(stage: Stage, options: ClusterOptions) -> Sequence[Collector]:
    """Return what asks for traces: of Tempo, else of Jaeger, where either is known."""
    url, tempo = jaeger_url(options, stage.spec), options.tempo
    entrance = (stage.spec.cluster.jaeger_entrance if stage.spec else None) or stage.wanted.entry
    if tempo is not None:
        from pytest_aefm.collectors.tempo import TempoCollector

        return (TempoCollector(tempo, entrance),)
    if url is None:
        return ()
    from pytest_aefm.collectors.jaeger import JaegerCollector

    return (JaegerCollector(url, entrance),)


def metric_collectors(stage: Stage, options: ClusterOptions, case: Case) -> Sequence[Collector]:
    """Return what asks Prometheus, where one is known."""
    url = prometheus_url(options, stage.spec)
    if url is None:
        return ()
    from pytest_aefm.collectors.own_metrics import query_collectors
    from pytest_aefm.collectors.prometheus import Layout, PrometheusCollector

    queries = {
        name: fill(template, namespace=stage.namespace) for name, template in {**KUBERNETES, **case.queries}.items()
    }
    nodes = {node.name: str(node.facts.get("address", "")) for node in stage.nodes}
    entry, path = stage.wanted.entry, stage.path
    return (
        PrometheusCollector(url, queries, Layout("pod", stage.workloads, stage.limits)),
        *query_collectors(url, case.metrics),
        NodeNetworkCollector(url, nodes, stage.namespace, entry, lambda: path.pods, counted=stage.wanted.mesh),
    )
