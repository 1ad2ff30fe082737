"""What is dna-pipeline's own in a data folder, and what is somebody else's."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.ownership import (
    check_data_folder,
    find_leftovers,
    make_mark,
    read_mark,
)

TEXT = """\
version: 1
paths: {data: data, outbox: %s}
models:
  sd: {provider: diffusers, path: sd/v1-5, single_file: weights/sd15}
  key: {provider: border_key}
pipelines: {cut: [{remove_background: {model: key}}]}
inboxes: [{path: in, pipeline: cut, source_roots: [data/library]}]
"""
UNKNOWN, OTHER = "a" * 32, "b" * 32


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., Config]:
    def make(outbox: str = "out") -> Config:
        (tmp_path / "pipeline.yaml").write_text(TEXT % outbox)
        (tmp_path / "data").mkdir(exist_ok=True)
        return load_config(tmp_path / "pipeline.yaml", {})

    return make


@pytest.fixture
def config(make_config: Callable[..., Config]) -> Config:
    return make_config()


def fill(config: Config, *names: str) -> None:
    """Files, and with a slash at the end folders, in the data folder."""
    for name in names:
        path = config.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_bytes(b"bytes")


# --- the first start ---


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["models/sd-v1-5-local/unet.bin", "wildcards/a.txt", "embeddings/b", "logs/dna.log"],
        ["README.md", ".DS_Store", ".cache/x", "lost+found/", "@eaDir/x", "Thumbs.db"],
        ["u2net.onnx", "v1-5.SAFETENSORS", "triposr/model.ckpt", "xl/model_index.json"],
        ["sd/v1-5/unet", "weights/sd15", "library/a.png", "results/old.png", "output/mesh.glb"],
        ["ledger.db.damaged-20260101", "rebuilt.db", "daemon.lock", "worker.lock", "weights.json"],
        ["work/my_scene/a", "claims/insurance/b", "recovered/x/y"],
    ],
)
def test_data_folders_in_which_a_ledger_begins(make_config, names: list[str]) -> None:
    config = make_config("data/results")
    fill(config, *names)
    check_data_folder(config)


@pytest.mark.parametrize("name", ["photo.jpg", "Documents/", "inbox/a.png", "ledgers.xlsx"])
def test_those_of_others_are_refused(config: Config, name: str) -> None:
    fill(config, "models/sd", name)
    with pytest.raises(ConfigError) as caught:
        check_data_folder(config)
    assert str(caught.value) == (
        f"{config.data}: there is no ledger here yet, and this folder holds what is not "
        f"dna-pipeline's: {name.split('/')[0]}. Nothing was changed. Let paths.data (or "
        "$DNA_DATA_DIR) name another folder, or an empty one in this, such as "
        f"{config.data / 'dna-pipeline'}"
    )


def test_of_many_a_few_are_named(config: Config) -> None:
    fill(config, *(f"{letter}.txt" for letter in "abcdefg"))
    with pytest.raises(ConfigError, match=r"a\.txt, b\.txt, c\.txt, d\.txt and 3 more\. Nothing"):
        check_data_folder(config)


def test_a_folder_that_has_a_ledger_is_not_looked_at(config: Config) -> None:
    Ledger(config.ledger_path).close()
    fill(config, "photo.jpg")
    check_data_folder(config)
    config.ledger_path.unlink()
    check_data_folder(config)  # that it is lost is said by whoever opens it


def test_nor_one_whose_ledger_was_removed_by_hand(config: Config) -> None:
    ledger = Ledger(config.ledger_path)
    make_mark(config, ledger)
    ledger.close()
    for path in config.data.glob("ledger*"):
        path.unlink()
    fill(config, "photo.jpg")
    check_data_folder(config)


# --- the mark ---


def test_a_new_ledger_owns_nothing_that_was_there(config: Config) -> None:
    fill(
        config, f"work/{OTHER}/a", f"claims/{OTHER}/a", "claims/insurance/b", "work/trash-00112233/"
    )
    ledger = Ledger(config.ledger_path)
    mark = make_mark(config, ledger)
    fill(config, f"claims/{UNKNOWN}/a")
    assert make_mark(config, ledger) == mark == read_mark(config.data)
    assert mark.ledger == ledger.id
    assert mark.others == {f"work/{OTHER}", f"claims/{OTHER}"}
    assert mark.is_foreign(config.claims / OTHER)
    assert not mark.is_foreign(config.claims / UNKNOWN)
    ledger.close()


def test_another_ledger_in_the_same_folder_is_a_new_one(config: Config) -> None:
    first = Ledger(config.ledger_path)
    make_mark(config, first)
    first.close()
    fill(config, f"claims/{UNKNOWN}/a")
    for path in config.data.glob("ledger*"):
        path.unlink()
    second = Ledger(config.ledger_path)
    mark = make_mark(config, second)
    assert (mark.ledger, mark.others) == (second.id, {f"claims/{UNKNOWN}"})
    second.close()


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"ledger": "../x", "others": []}', '{"ledger": 3}', "\xff"]
)
def test_a_mark_that_makes_no_sense_is_none(config: Config, text: str) -> None:
    (config.data / ".dna-owner").write_bytes(text.encode("latin-1"))
    assert read_mark(config.data) is None


# --- what status tells ---


def test_what_is_left_is_seen(config: Config) -> None:
    fill(config, f"work/{OTHER}/a")
    ledger = Ledger(config.ledger_path)
    make_mark(config, ledger)
    inbox, staging = (
        place / ".dna" / ledger.id for place in (config.inboxes[0].path, config.outbox)
    )
    for folder in (inbox / UNKNOWN, inbox / "notes", staging / UNKNOWN, staging / "trash-00aa11bb"):
        folder.mkdir(parents=True)
    (inbox / "owner.json").touch()
    (staging / "latest.tmp").touch()
    names = [
        "work/my_scene/a",
        f"work/{UNKNOWN}/",
        "claims/a.txt",
        "claims/.hidden/",
        "recovered/x/y",
    ]
    fill(config, *names)
    leftovers = find_leftovers(config).to_dict()
    assert leftovers == {
        "recovered": {"folder": str(config.recovered), "count": 1},
        "foreign": [
            *map(str, (config.work / OTHER, config.work / "my_scene", config.claims / "a.txt")),
            str(inbox / "notes"),
        ],
        "foreign_total": 4,
    }
    json.dumps(leftovers)
    assert find_leftovers(config).to_dict(limit=1)["foreign"] == [str(config.work / OTHER)]
    ledger.close()


def test_before_the_first_start_nothing_is_said(config: Config) -> None:
    fill(config, "work/my_scene/a")
    assert find_leftovers(config).to_dict()["foreign"] == []
