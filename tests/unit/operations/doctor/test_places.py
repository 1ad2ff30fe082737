"""Facts about real folders, ledgers and weights."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from dna_pipeline.base.reachability import SILENT, Reach, look_directly
from dna_pipeline.config.file_parts import RetentionSpec
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.execution.result_store import ResultStore
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.daemon.lock import hold_lock
from dna_pipeline.operations.doctor import places, project
from dna_pipeline.operations.doctor.facts import Clock, Machine
from tests.ledgers import lay_out

CONFIG = """\
version: 1
models:
  tripo: {provider: triposr, path: models/triposr}
  matte: {provider: border_key}
pipelines: {mesh: [{remove_background: {model: matte}}, {triposr: {model: tripo}}]}
inboxes:
- {path: inbox, pipeline: mesh, recursive: true}
- {path: kept, pipeline: mesh, originals: keep}
"""

TENSOR = {"dtype": "F16", "data_offsets": [0, 24]}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    file = tmp_path / "pipeline.yaml"
    file.write_text(CONFIG)
    return load_config(file, {})


@contextmanager
def as_plain_user() -> Iterator[None]:
    """Act as a user without root's rights; rights do not count for root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_folders_that_will_be_made(config: Config, tmp_path: Path):
    data, outbox, inbox, kept = places.folders(config, None, look_directly)
    assert [folder.role for folder in (data, outbox, inbox, kept)] == [
        "data", "outbox", "inbox inbox", "inbox kept",
    ]  # fmt: skip
    for folder in (data, outbox, inbox, kept):
        assert (folder.state, folder.refusal, folder.problem) == ("missing", "", "")
        assert folder.free_bytes
    assert list(tmp_path.iterdir()) == [config.file]


def test_folders_that_are_there(config: Config, tmp_path: Path):
    for name in ("data", "outbox", "inbox/x/y", "inbox/.dna/z", "kept/x"):
        (tmp_path / name).mkdir(parents=True)
    data, outbox, inbox, kept = places.folders(config, None, look_directly)
    assert {folder.state for folder in (data, outbox, inbox, kept)} == {"there"}
    assert (data.use, outbox.use, inbox.use, kept.use) == ("write", "write", "move", "read")
    assert inbox.subfolders == 3
    assert kept.subfolders is None
    assert list((tmp_path / "data").iterdir()) == []
    assert list((tmp_path / "outbox").iterdir()) == []


def test_an_inbox_with_a_mistyped_name(config: Config, tmp_path: Path):
    (tmp_path / "inbxo").mkdir()
    *_, inbox, _ = places.folders(config, None, look_directly)
    assert "did you mean 'inbxo'" in inbox.problem


def test_a_folder_that_does_not_answer(config: Config, tmp_path: Path):
    def look(folder: Path) -> Reach:
        return SILENT if folder == tmp_path / "outbox" else look_directly(folder)

    _, outbox, *_ = places.folders(config, None, look)
    assert (outbox.state, outbox.why) == ("silent", SILENT.why)
    assert outbox.free_bytes is None


@pytest.mark.parametrize(
    ("use", "mode"), [("write", 0o555), ("write", 0), ("move", 0o555), ("read", 0)]
)
def test_a_folder_to_which_there_is_no_right(use: places.Use, mode: int):
    with tempfile.TemporaryDirectory() as root:  # pytest's folders are root's alone
        folder = Path(root, "folder")
        folder.mkdir()
        assert places.folder("outbox", folder, use, look_directly).refusal == ""
        Path(root).chmod(0o555)
        folder.chmod(mode)
        with as_plain_user():
            facts = places.folder("outbox", folder, use, look_directly)
            missing = places.folder("outbox", Path(root, "new"), "write", look_directly)
        Path(root).chmod(0o755)
        folder.chmod(0o755)
    assert facts.refusal == "Permission denied"
    assert missing.refusal == f"{root}: Permission denied"


def test_a_folder_of_results_that_another_user_made():
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        file = Path(root, "pipeline.yaml")
        file.write_text(CONFIG)
        config = load_config(file, {})
        config.outbox.mkdir()
        config.outbox.chmod(0o777)
        (config.outbox / "kept").mkdir(mode=0o555)
        with as_plain_user():
            _, outbox, *_ = places.folders(config, None, look_directly)
    assert outbox.refusal == f"{config.outbox / 'kept'}: Permission denied"


def test_a_file_in_the_place_of_a_folder(tmp_path: Path):
    (tmp_path / "data").write_text("")
    facts = places.folder("data", tmp_path / "data", "write", look_directly)
    assert facts.refusal == "is no folder"
    facts = places.folder("data", tmp_path / "data/x", "write", look_directly)
    assert facts.refusal == "Not a directory"


@pytest.mark.parametrize("name", ["data", "outbox", "inbox"])
def test_a_link_whose_target_is_gone(config: Config, tmp_path: Path, name: str):
    (tmp_path / name).symlink_to(tmp_path / "disk")
    facts = {facts.path: facts for facts in places.folders(config, None, look_directly)}
    problem = facts[str(tmp_path / name)].problem
    assert f"{tmp_path / name} is a link to {tmp_path / 'disk'}, which is not there" in problem
    assert sum(bool(one.problem) for one in facts.values()) == 1
    (tmp_path / "disk").mkdir()
    assert not any(one.problem for one in places.folders(config, None, look_directly))


def test_a_link_above_a_folder_whose_target_is_gone(tmp_path: Path):
    (tmp_path / "link").symlink_to("disk")
    facts = places.folder("outbox", tmp_path / "link/a/b", "write", look_directly)
    assert f"{tmp_path / 'link'} is a link to {tmp_path / 'disk'}" in facts.problem


def test_counting_folders_ends(tmp_path: Path):
    (tmp_path / "a").mkdir()
    assert places.count_folders(tmp_path) == 2
    assert places.count_folders(tmp_path, limit_s=-1) is None


def test_a_ledger_and_what_stands_against_it(config: Config):
    facts, queries = places.open_ledger(config, look_directly)
    assert (facts.problem, facts.size_bytes, queries) == ("", None, None)
    lay_out(config.ledger_path)
    Ledger(config.ledger_path).close()
    facts, queries = places.open_ledger(config, look_directly)
    assert queries is not None
    queries.close()
    assert (facts.problem, facts.owner, facts.unwritable) == ("", "", ())
    assert facts.size_bytes == config.ledger_path.stat().st_size
    config.ledger_path.write_bytes(b"no database at all")
    facts, queries = places.open_ledger(config, look_directly)
    assert queries is None
    assert "it is not a database" in facts.problem
    config.ledger_path.unlink()
    facts, _ = places.open_ledger(config, look_directly)
    assert "it is gone" in facts.problem


def test_a_data_folder_of_other_people(config: Config):
    config.data.mkdir()
    (config.data / "thesis.doc").write_text("mine")
    facts, _ = places.open_ledger(config, look_directly)
    assert "thesis.doc" in facts.problem


def test_a_daemon_that_runs(config: Config):
    assert places.daemons(config, look_directly) == ()
    with hold_lock(config.data):
        (text,) = places.daemons(config, look_directly)
    assert f"process {os.getpid()}" in text


def test_weights(config: Config):
    tripo, matte = places.models(config, look_directly)
    assert "config.yaml is not there" in tripo.missing
    assert (matte.missing, matte.path, matte.needs_device) == ("", "", False)
    folder = config.data / "models/triposr"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("{}")
    torch.save({"a": torch.zeros(10, 100, dtype=torch.float16)}, folder / "model.ckpt")
    size = (folder / "model.ckpt").stat().st_size
    tripo, _ = places.models(config, look_directly)
    assert (tripo.missing, tripo.elements, tripo.file_bytes) == ("", 1000, size + 2)
    assert tripo.mismatch == ""


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"version https://git-lfs.github.com/spec/v1\nsize 9\n", "is a Git LFS pointer"),
        (b"<!doctype html><title>Log in</title>", "is a web page and no weights"),
    ],
)
def test_a_file_that_is_no_weights_is_a_fault(config: Config, content: bytes, sentence: str):
    folder = config.data / "models/triposr"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("{}")
    (folder / "model.ckpt").write_bytes(content)
    models = places.models(config, look_directly)
    assert f"{folder / 'model.ckpt'} {sentence}" in models[0].mismatch
    fault, other = project.weights(Machine(Clock(datetime.now(UTC)), models=models))
    assert (fault.state, fault.subject, other.state) == ("fault", "tripo", "ok")
    assert sentence in fault.value and fault.hint


@pytest.mark.parametrize(
    ("head", "elements"),
    [
        (json.dumps({"a": TENSOR | {"shape": [3, 4]}, "__metadata__": {}}), 12),
        (json.dumps({"a": TENSOR | {"shape": []}}), 1),
        (json.dumps({"a": {}}), None),
        ("[1]", None),
        ('{"a": ' + "[" * 100_000, None),
    ],
)
def test_values_in_safetensors(config: Config, head: str, elements: int | None):
    folder = config.data / "models/triposr"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("{}")
    text = head.encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    assert places.models(config, look_directly)[0].elements == elements


def test_a_folder_at_the_key_of_a_vae_is_no_matter_for_a_pull(tmp_path: Path):
    (tmp_path / "data/models/vae").mkdir(parents=True)
    file = tmp_path / "pipeline.yaml"
    model = "sd: {provider: diffusers, path: models/sd15, vae: models/vae}"
    file.write_text(CONFIG.replace("tripo:", f"{model}\n  tripo:", 1))
    sd, tripo, _ = places.models(load_config(file, {}), look_directly)
    assert (sd.can_be_pulled, tripo.can_be_pulled) == (False, True)
    fault, *_ = project.weights(Machine(Clock(datetime.now(UTC)), models=(sd,)))
    assert "is a folder" in fault.value and fault.hint == "name the file in it"


def test_models_on_a_share_that_does_not_answer(config: Config):
    models = places.models(config, lambda _: SILENT)
    assert models[0].missing == f"{config.data / 'models'} does not answer"


CHECKPOINTS = """\
version: 1
models: {"*": models/checkpoints}
pipelines: {restyle: [{img2img: {model: a}}]}
inboxes: [{path: inbox, pipeline: restyle}]
"""


@pytest.fixture
def checkpoints(tmp_path: Path) -> Config:
    """A configuration whose pipeline uses the checkpoint `a`, beside which there is `b`."""
    (tmp_path / "pipeline.yaml").write_text(CHECKPOINTS)
    folder = tmp_path / "data/models/checkpoints"
    folder.mkdir(parents=True)
    for name, text in (("a", "<html>"), ("b", "<html>, and more")):
        (folder / f"{name}.safetensors").write_text(text)
    return load_config(tmp_path / "pipeline.yaml", {})


def test_headers_of_used_checkpoints_alone_are_read(checkpoints: Config):
    used, other = places.models(checkpoints, look_directly)
    assert (used.name, used.file_bytes, used.shares_memory) == ("a", 6, True)
    assert "is a web page" in used.mismatch
    assert (other.name, other.mismatch, other.file_bytes) == ("b", "", 16)


def test_a_name_of_two_checkpoints_that_a_pipeline_uses(checkpoints: Config):
    folder = checkpoints.data / "models/checkpoints"
    for name in ("a", "b"):
        (folder / f"{name}.ckpt").write_text("x")
    named, *_ = places.models(checkpoints, look_directly)
    assert (named.name, named.can_be_pulled) == ("a", False)
    assert "a.safetensors and a.ckpt" in named.missing


def test_a_file_in_the_place_of_the_folder_of_checkpoints(checkpoints: Config):
    folder = checkpoints.data / "models/checkpoints"
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    assert places.models(checkpoints, look_directly) == ()
    folder.write_text("")
    (problem,) = places.models(checkpoints, look_directly)
    assert f"{folder} is a file, and `*` takes a folder" in problem.missing


def test_results_that_are_kept_for_later_jobs(config: Config, tmp_path: Path):
    def sentences(config: Config) -> list[str]:
        kept = places.kept_results(config, look_directly)
        machine = Machine(Clock(datetime.now(UTC)), kept=kept)
        return [finding.value for finding in project.kept_results(machine)]

    folder = tmp_path / "data/kept"
    assert sentences(config) == [f"{folder}, 0 results, 0 bytes of 10 GiB"]
    store = ResultStore(folder, free_bytes=0)
    store.keep_bytes("ab" + "1" * 62, {}, "scene", bytes(3 << 20))
    (line,) = sentences(config)
    assert line == f"{folder}, 1 result, 3 MiB of 10 GiB"
    none = replace(config, retention=RetentionSpec(reuse_bytes=0))
    assert sentences(none) == ["no results are kept for later jobs (retention.reuse_bytes: 0)"]
    assert places.kept_results(config, lambda _: SILENT) is None
