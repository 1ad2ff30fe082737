"""Findings of `doctor` about a Ray cluster."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dna_pipeline.base import programs
from dna_pipeline.config.loader import load_config
from dna_pipeline.operations.doctor import ray_cluster
from dna_pipeline.operations.doctor.facts import Clock, Demand, Machine, RayDemand, Trial

NODES = [
    {"id": "1", "name": "render1", "cpus": 8.0, "gpus": 2.0},
    {"id": "2", "name": "render2", "cpus": 4.0, "gpus": 0.0},
]
CONFIG = """\
version: 1
runtime: {%s}
models: {sd15: {provider: diffusers, path: models/sd15}}
pipelines: {restyle: [{img2img: {model: sd15}}]}
"""


def states(demand: RayDemand | None, trial: Trial) -> list[tuple[str, str]]:
    machine = Machine(Clock(datetime.now(UTC)), demand=Demand(ray=demand), ray=trial)
    return [(finding.state, finding.value) for finding in ray_cluster.ray(machine)]


def test_nodes_are_listed_and_room_is_counted():
    trial = Trial("", {"nodes": NODES})
    listed = [("ok", "8 cores, 2 cards"), ("ok", "4 cores, 0 cards")]
    assert states(RayDemand("auto", 2, True, 1), trial) == listed
    lack = ("warning", "there is room for 2 of 3 workers")
    assert states(RayDemand("auto", 3, True, 1), trial) == [*listed, lack]
    assert states(RayDemand("auto", 5, False, 2), trial) == [*listed]
    none = Trial("", {"nodes": NODES[1:]})
    assert states(RayDemand("auto", 1, True, 1), none)[-1] == (
        "fault", "there is room for 0 of 1 workers",
    )  # fmt: skip


def test_a_cluster_that_is_not_there_is_a_fault_only_if_it_is_needed():
    assert states(RayDemand("auto", 1, True, 1), Trial("no cluster")) == [("fault", "no cluster")]
    assert states(None, Trial()) == []


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (programs.Output(0, json.dumps({"problem": "", "nodes": NODES}), ""), ""),
        (
            programs.Output(0, '{"problem": "gone", "nodes": []}', ""),
            "no cluster answers at a:1: gone",
        ),
        (programs.Output(-6, "", ""), "the cluster at a:1 was not found"),
    ],
)
def test_the_cluster_is_looked_at_from_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch, output: programs.Output, problem: str
):
    monkeypatch.setattr(ray_cluster, "find_spec", lambda _: object())
    monkeypatch.setattr(programs, "run", lambda *_: output)
    assert ray_cluster.look("a:1").problem == problem


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray_cluster, "find_spec", lambda _: None)
    assert ray_cluster.look("auto").problem == "the package ray is not installed"


def test_workers_elsewhere_need_no_device_here(tmp_path: Path):
    file = tmp_path / "pipeline.yaml"
    file.write_text(CONFIG % "executor: ray, device: cuda, ray: {workers: 3}")
    demand = Demand.of(load_config(file, {}))
    assert (demand.device, demand.other_devices, demand.needs_device) == ("cpu", (), False)
    assert demand.ray == RayDemand("auto", 3, takes_cards=True, worker_takes=1)
    file.write_text(CONFIG % "device: cuda")
    demand = Demand.of(load_config(file, {}))
    assert (demand.device, demand.needs_device, demand.ray) == ("cuda", True, None)
