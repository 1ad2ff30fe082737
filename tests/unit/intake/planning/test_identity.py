"""Keys by which a job is the same in all versions of the program."""

from __future__ import annotations

from pathlib import Path

import pytest

from dna_pipeline.config.batch import Row
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.config.yaml12 import loads
from dna_pipeline.intake.planning.plan import Plan, PlanItem, Planner
from dna_pipeline.weights.loras import FOLDER

CONFIG = """\
version: 1
models:
  sd: {provider: diffusers, path: m}
  key: {provider: border_key}
  t: {provider: triposr, path: t}
pipelines:
  restyle: [{img2img: {model: sd}}, {remove_background: {model: key}}, {triposr: {model: t}}]
inboxes: [{path: in, pipeline: restyle, originals: keep}]
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "in").mkdir()
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    return load_config(tmp_path / "pipeline.yaml", {})


@pytest.mark.parametrize(
    ("sidecar", "key"),
    [
        (None, "79d3a7b17675766f18c40a18a84773c0fe348fcc2188019bf958f2f168fac88a"),
        (
            b"img2img: {prompt: x, seed: -1}\npriority: 3\n",
            "f9b69433e44ba016c965bff0f485d6a13b4eed199a01bcc7d02f8cf1aa442d47",
        ),
    ],
)
def test_a_kept_file_that_version_0_1_did_is_not_done_again(
    config: Config, sidecar: bytes | None, key: str
) -> None:
    planner = Planner(config, config.inboxes[0])
    assert planner.version_key("", "a.png", sidecar, "0" * 64, None) == key


def test_a_row_that_version_0_1_did_is_skipped(config: Config) -> None:
    item = PlanItem(Row(1, "a.png", loads(b"img2img: {prompt: x}\n")))
    plan = Plan("table", "", "rows.csv", "rows", [item])
    planner = Planner(config, config.inboxes[0])
    key = planner.dedup_key(plan, item, "0" * 64, lambda name: {"name": name})
    assert key == "a62f528a540ac83836410be33f28051d1e2d24b7426bbbdcc295d25079ae6d86"


def test_another_value_of_a_later_parameter_makes_another_job(config: Config) -> None:
    planner = Planner(config, config.inboxes[0])
    keys = [
        planner.version_key("", "a.png", text, "0" * 64, None)
        for text in (None, b"img2img: {alpha: keep}", b"img2img: {alpha: white}")
    ]
    assert keys[0] == keys[1] != keys[2]


def test_where_a_model_computes_makes_no_other_job(tmp_path: Path) -> None:
    """And the key is that of versions whose models had no such option."""
    (tmp_path / "in").mkdir()
    models = {
        "auto": "{provider: rembg, name: u2net}",
        "cpu": "{provider: rembg, name: u2net, device: cpu}",
    }
    (tmp_path / "pipeline.yaml").write_text(
        "version: 1\nmodels:\n"
        + "".join(f"  {name}: {entry}\n" for name, entry in models.items())
        + "pipelines:\n  cut: [{remove_background: {model: auto}}]\n"
        "inboxes: [{path: in, pipeline: cut}]\n"
    )
    config = load_config(tmp_path / "pipeline.yaml", {})
    identity = Planner(config, config.inboxes[0]).model_identities()
    assert identity("auto") == identity("cpu")
    assert "device" not in identity("auto")[1]


def test_the_bytes_of_a_lora_make_another_job(config: Config) -> None:
    lora = config.data / FOLDER / "clay.safetensors"

    def key(sidecar: bytes) -> str:
        item = PlanItem(Row(1, "a.png", loads(sidecar)))
        plan = Plan("table", "", "rows.csv", "rows", [item])
        planner = Planner(config, config.inboxes[0])
        return planner.dedup_key(plan, item, "0" * 64, lambda name: {"name": name})

    texts = [b"img2img: {loras: {clay: 0.8}}", b'img2img: {prompt: "<lora:clay:0.8>"}']
    plain = key(b"img2img: {prompt: x}")
    absent = [key(text) for text in texts]
    lora.parent.mkdir(parents=True)
    lora.write_bytes(b"one")
    first = [key(text) for text in texts]
    lora.write_bytes(b"another")
    assert len({*absent, *first, *(key(text) for text in texts)}) == 6
    assert key(b"img2img: {prompt: x}") == plain
