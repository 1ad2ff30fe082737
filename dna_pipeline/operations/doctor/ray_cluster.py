"""Checks of the Ray cluster that workers are to run on."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from dna_pipeline.base import programs
from dna_pipeline.operations.doctor.facts import Machine, Trial
from dna_pipeline.operations.doctor.findings import Finding

LIMIT_S = 60.0
"""Time limit of the look at the cluster."""

_MODULE = "dna_pipeline.execution.cluster.nodes"


def look(address: str) -> Trial:
    """Find the nodes of the cluster, in a child process.

    Returns:
        A trial with the fact `nodes`: their names, cores and cards.
    """
    if find_spec("ray") is None:
        return Trial("the package ray is not installed")
    try:
        done = programs.run([sys.executable, "-m", _MODULE, address], LIMIT_S)
    except (OSError, TimeoutError) as error:
        return Trial(f"the cluster at {address} was not found: {error}")
    lines = done.text.splitlines()
    if done.code != 0 or not lines:
        return Trial(f"the cluster at {address} was not found")
    answer: dict[str, Any] = json.loads(lines[-1])
    problem = f"no cluster answers at {address}: {answer['problem']}" if answer["problem"] else ""
    return Trial(problem, {"nodes": answer["nodes"]})


def ray(machine: Machine) -> Iterator[Finding]:
    """Say which nodes the cluster has, and if they have room for all workers."""
    demand, trial = machine.demand.ray, machine.ray
    if demand is None:
        return
    if trial.problem:
        hint = (
            "pip install 'dna-pipeline[ray]' on all machines, and `ray start` (docs/many-gpus.md)"
        )
        yield Finding("ray", "fault", trial.problem, hint)
        return
    nodes: list[dict[str, Any]] = trial.facts["nodes"]
    for node in nodes:
        value = f"{node['cpus']:g} cores, {node['gpus']:g} cards"
        yield Finding("ray", "ok", value, subject=node["name"])
    kind = "gpus" if demand.takes_cards else "cpus"
    room = sum(int(node[kind] // demand.worker_takes) for node in nodes)
    if room < demand.workers:
        hint = "let more machines join by `ray start`, or set fewer in runtime.ray.workers"
        value = f"there is room for {room} of {demand.workers} workers"
        yield Finding("ray", "warning" if room else "fault", value, hint)
