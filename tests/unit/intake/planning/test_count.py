"""`count`: several jobs of one picture, each with a seed of its own."""

from __future__ import annotations

from itertools import count as counter
from pathlib import Path

import pytest

from dna_pipeline.base.errors import JobError, ParameterInvalid
from dna_pipeline.config.batch import Row, combinations, rows_of_job_file, rows_of_table
from dna_pipeline.config.job_context import JobContext
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.config.sidecar import JobSpec, parse_sidecar
from dna_pipeline.config.tables import parse_table
from dna_pipeline.intake.planning.plan import Plan, Planner

PIPELINE = """
version: 1
paths: {data: data, outbox: outbox}
models: {sd15: {provider: diffusers, path: models/sd}, u2net: {provider: rembg, name: u2net}}
pipelines:
  restyle: [{img2img: {model: sd15, prompt: x, seed: 7}}]
  cut: [{remove_background: {model: u2net}}]
inboxes: [{path: inbox, pipeline: restyle}]
"""
SHA256 = "0000000a" + "0" * 56


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    return load_config(tmp_path / "pipeline.yaml")


@pytest.fixture
def planner(config: Config) -> Planner:
    return Planner(config, config.inboxes[0])


def plan_of(planner: Planner, sidecar: str) -> Plan:
    drawn = counter(1000, 100)
    document = parse_sidecar(sidecar.encode())
    return planner.plan_image("", "cat.png", document, SHA256, lambda: next(drawn))


def seeds_of(plan: Plan) -> list[int]:
    outcomes = [item.outcome for item in plan.items]
    return [spec.stages[0].params["seed"] for spec in outcomes if isinstance(spec, JobSpec)]


@pytest.mark.parametrize(
    ("sidecar", "seeds"),
    [
        ("count: 4", [7, 8, 9, 10]),
        ("{count: 3, seed: 100}", [100, 101, 102]),
        ("{count: 2, img2img: {seed: 0}}", [0, 1]),
        ("{count: 3, seed: -1}", [1000, 1101, 1202]),
        ("{count: 2, seed: from_content}", [10, 11]),
        ("{count: 2, seed: 9223372036854775807}", [2**63 - 1, 0]),
        ("count: 1", [7]),
        ("{count: 2, matrix: {img2img.steps: [20, 30]}}", [7, 8, 7, 8]),
        ("{count: 2, matrix: {seed: [1, 5]}}", [1, 2, 5, 6]),
    ],
)
def test_each_job_has_the_next_seed(planner: Planner, sidecar: str, seeds: list[int]) -> None:
    plan = plan_of(planner, sidecar)
    assert seeds_of(plan) == seeds
    assert plan.kind == ("image" if len(seeds) == 1 else "matrix")


def test_jobs_with_drawn_seeds_have_keys_of_their_own(planner: Planner) -> None:
    plan = plan_of(planner, "{count: 3, seed: -1}")
    models = planner.model_identities()
    assert len({planner.dedup_key(plan, item, SHA256, models) for item in plan.items}) == 3


def test_a_drawn_seed_is_kept_when_the_job_is_resolved_again(planner: Planner) -> None:
    context = JobContext("cat.png", sha256=SHA256)
    spec = planner.resolve_one(
        b"{seed: -1, seed_offset: 2}", context, lambda: 0, seeds={"img2img": 1202}
    )
    assert spec.stages[0].params["seed"] == 1202


def test_a_pipeline_without_a_seed_refuses_it(planner: Planner) -> None:
    with pytest.raises(JobError, match="count: no stage of the pipeline 'cut' has a seed"):
        plan_of(planner, "{count: 2, pipeline: cut}")


@pytest.mark.parametrize("value", ["0", "-1", "2.5", "many", "100001", "[1]"])
def test_a_wrong_count_is_refused(planner: Planner, value: str) -> None:
    with pytest.raises(ParameterInvalid, match="count"):
        plan_of(planner, f"count: {value}")


def test_count_and_matrix_together_are_limited() -> None:
    with pytest.raises(ParameterInvalid, match="more than 100,000 jobs"):
        combinations(parse_sidecar(b"{count: 50001, matrix: {priority: [1, 2]}}"))


def test_an_image_that_is_one_job_already_stays_one(planner: Planner) -> None:
    with pytest.raises(ParameterInvalid, match="count: asks for several jobs"):
        planner.resolve_one(b"count: 2", JobContext("cat.png"))


def test_a_job_file_makes_them_for_each_image() -> None:
    rows = rows_of_job_file(parse_sidecar(b"count: 2"), ["a.png", "b.png"])
    assert [(row.number, row.image, row.document.value) for row in rows] == [
        (1, "a.png", {"seed_offset": 0}), (2, "a.png", {"seed_offset": 1}),
        (3, "b.png", {"seed_offset": 0}), (4, "b.png", {"seed_offset": 1}),
    ]  # fmt: skip


def table(config: Config, text: str, common: str | None = None) -> list[Row]:
    rows = parse_table(config.pipelines, "t.csv", text.encode()).rows
    return rows_of_table(rows, None if common is None else parse_sidecar(common.encode()))


def test_in_a_table_it_is_a_column(config: Config) -> None:
    rows = table(config, "image,count,seed\na.png,3,5\nb.png,,6\nc.png,0,\n,2,\nd.png,2,7\n")
    assert [(row.number, row.image, row.document.value.get("seed_offset")) for row in rows] == [
        (2, "a.png", 0), (3, "b.png", None), (4, "c.png", None), (5, None, None), (6, "d.png", 0),
        (7, "a.png", 1), (8, "a.png", 2), (9, "d.png", 1),
    ]  # fmt: skip
    assert [row.number for row in rows if row.error] == [4, 5]
    assert "count" in str(rows[2].error)


def test_the_yaml_beside_a_table_gives_the_count_of_rows_without_one(config: Config) -> None:
    rows = table(config, "image,count\na.png,\nb.png,1\n", "count: 2")
    assert [(row.number, row.image) for row in rows] == [(2, "a.png"), (3, "b.png"), (4, "a.png")]
