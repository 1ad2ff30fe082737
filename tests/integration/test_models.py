"""`dna-pipeline models` against a hub on this machine, with the real download code."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.providers.base import Device
from dna_pipeline.providers.stable_diffusion.provider import Diffusers
from dna_pipeline.weights.fingerprint import Fingerprints
from dna_pipeline.weights.staging import hold_lock
from tests.commands import Done, call, facts
from tests.hub import (
    CHECKER,
    HALF,
    RELEASED,
    SMALL,
    TRIPOSR,
    UNET,
    Answer,
    Hub,
    contents,
    network,
    noise,
    running_hub,
    sd_files,
    write_pins,
)
from tests.unit.weights import weight_files

pytestmark = pytest.mark.slow

CONFIG = """
version: 1
paths: {data: data, outbox: outbox}
models:
  sd15: {provider: diffusers, path: models/sd-v1-5-local}
  triposr: {provider: triposr, path: models/triposr-base}
  matte: {provider: rembg, name: u2net}
  key: {provider: border_key}
pipelines:
  restyle: [{img2img: {model: sd15}}]
  mesh: [{remove_background: {model: matte}}, {triposr: {model: triposr}}]
inboxes: [{path: in, pipeline: restyle}]
"""
SD = {name: data for name, data in sd_files().items() if name in {*SMALL, *HALF}}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def studio(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the configuration above; its commands use the hub and its models."""
    folder = tmp_path / "スタジオ"
    folder.mkdir()
    (folder / "pipeline.yaml").write_text(CONFIG)
    for name, value in hub.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DNA_MODEL_PINS", str(write_pins(tmp_path / "pins.json")))
    return folder


def configure(studio: Path, old: str, new: str) -> None:
    file = studio / "pipeline.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def models(studio: Path) -> Path:
    return studio / "data/models"


def start_pull(studio: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dna_pipeline", "models", "pull", *options]
    return subprocess.Popen(
        command, cwd=studio, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
        env={**os.environ, "PYTHONUTF8": "1"},
    )  # fmt: skip


def wait_for_bytes(path: Path, number: int) -> None:
    """Wait until a file has at least that many bytes."""
    end = time.monotonic() + 60
    while not path.is_file() or path.stat().st_size < number:
        assert time.monotonic() < end, f"{path} does not grow"
        time.sleep(0.02)


def present(studio: Path) -> list[str]:
    return [one["name"] for one in facts(studio, "models", "list") if one["present"]]


def pull(studio: Path, *options: str) -> Done:
    return call(studio, "models", "pull", *options)


# --- pull ---


def test_alone_it_fetches_what_the_configuration_lacks(studio: Path):
    done = pull(studio)
    assert done.returncode == 0, done.stderr
    assert contents(models(studio) / "sd-v1-5-local") == SD
    assert contents(models(studio) / "triposr-base") == TRIPOSR
    assert (models(studio) / "u2net.onnx").read_bytes() == RELEASED["u2net.onnx"]
    assert present(studio) == ["sd15", "triposr", "matte", "key"]
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["sd15", "triposr", "u2net"]
    assert "sd15 (OpenRAIL)" in done.stderr and "u2net (Apache-2.0; a note)" in done.stderr


def test_what_is_there_is_not_asked_for_again(studio: Path, hub: Hub):
    pull(studio)
    hub.requests.clear()
    done = pull(studio)
    assert (done.returncode, done.stdout) == (0, "")
    assert "nothing is missing" in done.stderr
    assert "sd15: " in pull(studio, "sd15").stderr
    assert hub.requests == []


def test_one_model_by_either_name(studio: Path):
    assert pull(studio, "matte").returncode == 0
    assert present(studio) == ["matte", "key"]
    (models(studio) / "u2net.onnx").unlink()
    assert pull(studio, "u2net").returncode == 0
    assert present(studio) == ["matte", "key"]


def test_a_published_model_that_no_entry_names_goes_to_its_own_place(studio: Path):
    configure(studio, "  triposr: {provider: triposr, path: models/triposr-base}\n", "")
    configure(
        studio, "  mesh: [{remove_background: {model: matte}}, {triposr: {model: triposr}}]\n", ""
    )
    assert pull(studio, "triposr").returncode == 0
    assert contents(models(studio) / "triposr-base") == TRIPOSR


def test_a_name_that_there_is_not_is_a_wrong_call(studio: Path, hub: Hub):
    done = pull(studio, "sd51")
    assert done.returncode == 2
    assert "did you mean 'sd15'?" in done.stderr
    assert hub.requests == []


def test_a_model_that_is_not_published_is_a_sentence(studio: Path):
    configure(studio, "models/sd-v1-5-local", "models/dreams")
    done = pull(studio)
    assert done.returncode == 1
    assert "No published model fits this entry" in done.stderr
    assert present(studio) == ["triposr", "matte", "key"]
    assert not (models(studio) / "dreams").exists()


def test_float32_on_demand(studio: Path):
    assert pull(studio, "--full", "sd15").returncode == 0
    full = {name.replace(".fp16", ""): data for name, data in sd_files().items() if name in HALF}
    assert set(contents(models(studio) / "sd-v1-5-local")) == {*SMALL, *full}
    assert present(studio) == ["sd15", "key"]


def test_the_safety_checker_comes_where_it_is_used(studio: Path, hub: Hub):
    pull(studio, "sd15")
    configure(studio, "sd-v1-5-local}", "sd-v1-5-local, safety_checker: true}")
    assert present(studio) == ["key"]
    hub.requests.clear()
    assert pull(studio, "sd15").returncode == 0
    assert {one.path.partition(":")[0].rpartition("/")[2] for one in hub.requests} == {
        "config.json", Path(CHECKER).name,
    }  # fmt: skip
    assert present(studio) == ["sd15", "key"]


def test_weights_in_one_file_come_alone(studio: Path):
    configure(studio, "sd-v1-5-local}", "sd-v1-5-local, single_file: models/v1-5-fp16.safetensors}")
    assert pull(studio, "sd15").returncode == 0
    assert set(contents(models(studio))) - {".dna-pull/lock"} == {"v1-5-fp16.safetensors"}
    assert present(studio) == ["sd15", "key"]


def test_dry_run_fetches_nothing(studio: Path, hub: Hub):
    done = pull(studio, "--dry-run")
    assert done.returncode == 0
    sha256 = hashlib.sha256(SD[UNET]).hexdigest()
    assert f"{hub.url}/somebody/sd/resolve/" in done.stdout and sha256 in done.stdout
    assert f"{len(SD[UNET]):,} bytes" in done.stdout
    assert hub.requests == []
    assert not (studio / "data").exists()


def test_the_password_of_a_mirror_is_not_printed(
    studio: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_ENDPOINT", hub.url.replace("//", "//user:hidden@"))
    hub.files.clear()
    for done in (
        pull(studio, "--dry-run"),
        pull(studio, "--dry-run", "--json"),
        call(studio, "models", "list", "--known", "--json"),
        pull(studio),
    ):
        assert hub.url in done.stdout + done.stderr
        assert "hidden" not in done.stdout + done.stderr


def test_certificates_that_are_not_there_are_a_sentence(
    studio: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")
    done = pull(studio)
    assert done.returncode == 1
    assert "SSL_CERT_FILE names /nonexistent, which is not there" in done.stderr
    assert "Traceback" not in done.stderr
    assert hub.requests == []


def test_json_holds_facts_alone(studio: Path):
    done = pull(studio, "matte", "--json")
    (one,) = json.loads(done.stdout)
    assert (one["name"], one["bytes"], one["license"]) == ("u2net", 150_000, "Apache-2.0")


def test_small_files_come_first(studio: Path, hub: Hub):
    """Their faults show before gigabytes were fetched."""
    pull(studio, "sd15")
    assert hub.requests[-1].path.endswith(UNET)
    assert hub.requests[0].path.endswith(".json")


def test_a_killed_pull_leaves_nothing_present_and_the_next_goes_on(studio: Path, hub: Hub):
    hub.answers[UNET] = [Answer(cut_after=500_000, gate=threading.Event())]
    process = start_pull(studio)
    staged = models(studio) / ".dna-pull/sd15" / UNET
    wait_for_bytes(staged, 400_000)
    process.kill()
    process.communicate(timeout=60)
    reached = staged.stat().st_size
    assert present(studio) == ["key"]
    assert [path.name for path in models(studio).iterdir()] == [".dna-pull"]
    listed = call(studio, "models", "list")
    assert "came already" in listed.stdout
    assert "discard" not in listed.stderr
    hub.requests.clear()
    assert pull(studio).returncode == 0
    assert hub.ranges(UNET) == [f"bytes={reached}-"]
    assert len([one for one in hub.requests if "/somebody/sd/" in one.path]) == 1
    assert contents(models(studio) / "sd-v1-5-local") == SD


def test_ctrl_c_ends_with_a_sentence(studio: Path, hub: Hub):
    hub.answers[UNET] = [Answer(cut_after=500_000, gate=threading.Event())]
    process = start_pull(studio, "sd15")
    wait_for_bytes(models(studio) / ".dna-pull/sd15" / UNET, 400_000)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert err.splitlines()[-1] == (
        "stopped; what came is kept, and the next `dna-pipeline models pull` goes on from there"
    )


def test_two_pulls_at_once_do_not_collide(studio: Path, hub: Hub):
    gate = threading.Event()
    hub.answers[UNET] = [Answer(cut_after=500_000, gate=gate)]
    process = start_pull(studio, "sd15")
    wait_for_bytes(models(studio) / ".dna-pull/sd15" / UNET, 400_000)
    second = pull(studio)
    assert second.returncode == 1
    assert "another `dna-pipeline models` command writes to" in second.stderr
    gate.set()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert contents(models(studio) / "sd-v1-5-local") == SD


def test_wrong_bytes_leave_nothing_behind(studio: Path, hub: Hub):
    hub.answers[UNET] = [Answer(body=noise("wrong", len(SD[UNET])))]
    done = pull(studio, "sd15")
    assert done.returncode == 1
    assert f"sd15 {UNET} from somebody/sd is not the published file" in done.stderr
    assert not (models(studio) / "sd-v1-5-local").exists()
    assert not (models(studio) / ".dna-pull/sd15" / UNET).exists()
    assert pull(studio, "sd15").returncode == 0


def test_a_changed_small_file_is_taken_when_allowed_and_said(studio: Path, hub: Hub):
    path = next(path for path in hub.files if path.endswith("tokenizer/vocab.json"))
    hub.files[path] = b'{"other": 1}'
    refused = pull(studio, "sd15")
    assert refused.returncode == 1
    assert "`--accept-changed` takes it as it is" in refused.stderr
    done = pull(studio, "sd15", "--accept-changed")
    assert done.returncode == 0, done.stderr
    assert "tokenizer/vocab.json was taken although it changed" in done.stderr
    assert (models(studio) / "sd-v1-5-local/tokenizer/vocab.json").read_bytes() == b'{"other": 1}'


def test_a_folder_that_lacks_files_is_completed(studio: Path, hub: Hub):
    folder = models(studio) / "sd-v1-5-local"
    pull(studio, "sd15")
    (folder / "unet/config.json").unlink()
    (folder / UNET).unlink()
    (folder / "README.md").write_text("mine")
    hub.requests.clear()
    assert pull(studio).returncode == 0
    assert contents(folder) == {**SD, "README.md": b"mine"}
    assert len([one for one in hub.requests if "/somebody/sd/" in one.path]) == 2


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts how often each file is hashed, by its name."""
    counts: Counter[str] = Counter()
    digest = hashlib.file_digest

    def count(file: Any, algorithm: str) -> Any:
        counts[Path(file.name).name] += 1
        return digest(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", count)
    return counts


def test_the_files_that_a_folder_has_are_hashed_once(studio: Path, hashed: Counter[str]):
    pull(studio, "sd15")
    (models(studio) / "sd-v1-5-local" / UNET).unlink()
    hashed.clear()
    assert pull(studio, "sd15").returncode == 0
    assert hashed["diffusion_pytorch_model.fp16.safetensors"] == hashed["vocab.json"] == 1


def test_an_export_hashes_each_file_once(studio: Path, tmp_path: Path, hashed: Counter[str]):
    pull(studio)
    (studio / "data/weights.json").unlink()
    hashed.clear()
    assert call(studio, "models", "export", str(tmp_path / "models.tar")).returncode == 0
    assert hashed["model.ckpt"] == hashed["u2net.onnx"] == 1


@pytest.mark.parametrize(
    ("name", "data"),
    [(UNET, b"my own"), ("unet/mine.safetensors", b"x"), ("tokenizer/vocab.json", b"{}")],
)
def test_a_folder_with_other_files_is_left_alone(studio: Path, hub: Hub, name: str, data: bytes):
    file = models(studio) / "sd-v1-5-local" / name
    file.parent.mkdir(parents=True)
    file.write_bytes(data)
    done = pull(studio, "sd15")
    assert done.returncode == 1
    assert name in done.stderr and "Nothing was changed; move the folder" in done.stderr
    assert contents(models(studio)) == {f"sd-v1-5-local/{name}": data}
    assert hub.requests == []


def test_an_empty_folder_is_no_hindrance(studio: Path):
    (models(studio) / "sd-v1-5-local").mkdir(parents=True)
    assert pull(studio, "sd15").returncode == 0
    assert contents(models(studio) / "sd-v1-5-local") == SD


def test_a_file_in_the_way_of_one_model_keeps_no_other_back(studio: Path):
    models(studio).mkdir(parents=True)
    (models(studio) / "triposr-base").write_text("mine")
    done = pull(studio)
    assert done.returncode == 1
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["sd15", "u2net"]
    assert done.stderr.splitlines()[-1].startswith("triposr: ")
    assert "triposr-base is in the way; move it to another name" in done.stderr
    assert present(studio) == ["sd15", "matte", "key"]
    again = pull(studio)
    assert again.returncode == 1
    assert "is in the way" in again.stderr and "nothing is missing" not in again.stderr


def test_a_link_to_another_disk_is_followed(studio: Path, elsewhere: Path):
    models(studio).mkdir(parents=True)
    (models(studio) / "sd-v1-5-local").symlink_to(elsewhere / "sd")
    refused = pull(studio, "sd15")
    assert refused.returncode == 1
    assert "which is not there" in refused.stderr
    (elsewhere / "sd").mkdir()
    assert pull(studio, "sd15").returncode == 0
    assert contents(elsewhere / "sd") == SD
    assert (models(studio) / "sd-v1-5-local").is_symlink()


def test_a_file_that_appears_meanwhile_stays(studio: Path, hub: Hub):
    gate = threading.Event()
    hub.answers["u2net.onnx"] = [Answer(cut_after=100_000, gate=gate)]
    process = start_pull(studio, "u2net")
    wait_for_bytes(models(studio) / ".dna-pull/u2net/u2net.onnx", 60_000)
    (models(studio) / "u2net.onnx").write_bytes(b"mine")
    gate.set()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "was made meanwhile and stays as it is" in err
    assert (models(studio) / "u2net.onnx").read_bytes() == b"mine"


def test_a_disk_that_is_too_small_is_said_first(studio: Path, hub: Hub, tmp_path: Path):
    document = json.loads((tmp_path / "pins.json").read_text())
    document["sources"]["sd"]["files"][UNET]["bytes"] = 1 << 50
    (tmp_path / "large.json").write_text(json.dumps(document))
    env = {**os.environ, "DNA_MODEL_PINS": str(tmp_path / "large.json")}
    done = call(studio, "models", "pull", "sd15", env=env)
    assert done.returncode == 1
    assert "1024 TiB are still to come" in done.stderr and " more, or let paths.data" in done.stderr
    assert hub.requests == []


@pytest.fixture
def small_disk(tmp_path: Path, lacking) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        lacking("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_fills_up_meanwhile_keeps_what_came(studio: Path, hub: Hub, small_disk: Path):
    configure(studio, "data: data", f"data: {small_disk}/data")
    gate = threading.Event()
    hub.answers[UNET] = [Answer(cut_after=500_000, gate=gate)]
    process = start_pull(studio, "sd15")
    staged = small_disk / "data/models/.dna-pull/sd15" / UNET
    wait_for_bytes(staged, 400_000)
    with pytest.raises(OSError), (small_disk / "filler").open("wb") as filler:
        while True:
            filler.write(bytes(1 << 16))
            filler.flush()
    gate.set()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the disk is full; what came is kept" in err
    (small_disk / "filler").unlink()
    reached = staged.stat().st_size
    assert reached >= 400_000
    hub.requests.clear()
    assert pull(studio, "sd15").returncode == 0
    assert hub.ranges(UNET) == [f"bytes={reached}-"]


# --- pull --from ---


def flat(folder: Path) -> None:
    for number, data in enumerate(SD.values()):
        (folder / f"{number}.bin").write_bytes(data)


def nested(folder: Path) -> None:
    for name, data in SD.items():
        path = folder / "backup/2024/sd" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def hub_cache(folder: Path) -> None:
    """As huggingface_hub lays it out: files by hash, and links to them."""
    root = folder / "models--somebody--sd"
    (root / "blobs").mkdir(parents=True)
    for name, data in SD.items():
        blob = root / "blobs" / hashlib.sha256(data).hexdigest()
        blob.write_bytes(data)
        link = root / "snapshots/0123" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))


@pytest.mark.parametrize("lay_out", [flat, nested, hub_cache])
@pytest.mark.parametrize("options", [[], ["--link"]], ids=["copy", "link"])
def test_files_come_from_a_folder(
    studio: Path, hub: Hub, tmp_path: Path, lay_out, options: list[str]
):
    source = tmp_path / "倉庫"
    source.mkdir()
    lay_out(source)
    before = contents(source)
    done = pull(studio, "sd15", "--from", str(source), *options)
    assert done.returncode == 0, done.stderr
    assert contents(models(studio) / "sd-v1-5-local") == SD
    assert not any(p.is_symlink() for p in (models(studio) / "sd-v1-5-local").rglob("*"))
    links = (models(studio) / "sd-v1-5-local" / UNET).stat().st_nlink
    assert links == (2 if options else 1)
    assert contents(source) == before
    assert hub.requests == []


def test_what_the_folder_lacks_is_named_and_fetched_later(studio: Path, hub: Hub, tmp_path: Path):
    source = tmp_path / "source"
    source.mkdir()
    nested(source)
    (source / "backup/2024/sd" / UNET).write_bytes(noise("damaged", len(SD[UNET])))
    done = pull(studio, "sd15", "--from", str(source))
    assert done.returncode == 1
    assert hashlib.sha256(SD[UNET]).hexdigest() in done.stderr
    assert str(source / "backup/2024/sd" / UNET) in done.stderr
    assert present(studio) == ["key"]
    assert hub.requests == []
    assert pull(studio, "sd15").returncode == 0
    assert [one.path.endswith(UNET) for one in hub.requests] == [True]


def test_a_link_without_a_folder_is_a_wrong_call(studio: Path, hub: Hub):
    done = pull(studio, "--link")
    assert done.returncode == 2
    assert "name it with --from FOLDER" in done.stderr
    assert hub.requests == []


def test_a_folder_that_is_not_there_is_a_wrong_call(studio: Path):
    done = pull(studio, "sd15", "--from", "nowhere")
    assert done.returncode == 2
    assert "nowhere is no folder" in done.stderr


# --- list ---


def test_the_list_of_the_configuration(studio: Path):
    pull(studio, "triposr")
    sd15, triposr, matte, key = facts(studio, "models", "list")
    assert list(sd15) == [
        "kind", "name", "provider", "path", "present", "missing", "bytes", "staged_bytes",
        "license", "pipelines", "mismatch", "small", "fits", "trigger_words",
    ]  # fmt: skip
    assert sd15["missing"].endswith("or run `dna-pipeline models pull`")
    assert matte["missing"].endswith("or run `dna-pipeline models pull`")
    assert (triposr["present"], triposr["missing"]) == (True, None)
    assert triposr["bytes"] == sum(map(len, TRIPOSR.values()))
    assert triposr["pipelines"] == ["mesh"]
    assert [model["small"] for model in (sd15, triposr, matte, key)] == [False, True, False, False]
    assert (key["path"], key["bytes"]) == (None, 0)


def test_listing_loads_no_library_of_models(studio: Path):
    code = (
        "import sys, pathlib; from dna_pipeline.operations.configuration import load\n"
        "from dna_pipeline.operations.models.listing import list_models\n"
        "list_models(load(pathlib.Path('pipeline.yaml')))\n"
        "print({'torch', 'numpy', 'PIL', 'httpx2', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=studio, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_files_beside_the_models_are_listed(studio: Path):
    for name in ("models/loras/絵.safetensors", "models/embeddings/bad/x.pt", "wildcards/色.txt"):
        path = studio / "data" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"123")
    extras = facts(studio, "models", "list")[4:]
    assert [(one["kind"], one["name"], one["bytes"]) for one in extras] == [
        ("lora", "絵", 3), ("embedding", "bad/x", 3), ("wildcards", "色", 3),
    ]  # fmt: skip
    assert "絵" in call(studio, "models", "list").stdout


def test_a_lora_is_listed_with_what_it_fits_and_its_trigger_words(studio: Path):
    for path, tensor, shape in (
        ("loras/clay", f"{weight_files.KOHYA}lora_down.weight", (2, 768)),
        ("loras/xl", f"{weight_files.KOHYA_XL}lora_down.weight", (2, 2048)),
        ("embeddings/ink", "emb_params", (2, 768)),
        ("embeddings/wide", "emb_params", (2, 1024)),
    ):
        file = models(studio) / f"{path}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        weight_files.write_safetensors(file, {tensor: shape})
    words = '{"activation text": "clay style"}'
    (models(studio) / "loras/clay.json").write_text(words)
    extras = facts(studio, "models", "list")[4:]
    fits = [(one["kind"], one["name"], one["fits"], bool(one["mismatch"])) for one in extras]
    assert fits == [
        ("lora", "clay", "Stable Diffusion 1.5", False),
        ("lora", "xl", "Stable Diffusion XL", True),
        ("embedding", "ink", "Stable Diffusion 1.5", False),
        ("embedding", "wide", "Stable Diffusion 2", True),
    ]
    assert [one["trigger_words"] for one in extras] == [["clay style"], [], [], []]
    lines = call(studio, "models", "list").stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("clay "))
    assert lines[at + 2 : at + 4] == ["  for Stable Diffusion 1.5", "  trigger words: clay style"]
    assert "xl.safetensors is a LoRA for Stable Diffusion XL; needed here is" in "".join(lines)


def test_the_published_models_need_no_configuration(tmp_path: Path):
    known = {one["name"]: one for one in facts(tmp_path, "models", "list", "--known")}
    assert known["sd15"]["bytes"] == 2_134_194_467
    assert known["triposr"]["license"] == "MIT"
    assert "non-commercial" in known["isnet-general-use"]["note"]
    assert "non-commercial" in call(tmp_path, "models", "list", "--known").stdout


# --- verify ---


def state(studio: Path, name: str) -> tuple[str, int]:
    done = call(studio, "models", "verify", name, "--json")
    return json.loads(done.stdout)[0]["state"], done.returncode


def test_verify_tells_what_each_model_is(studio: Path):
    assert state(studio, "sd15") == ("missing", 1)
    pull(studio)
    assert call(studio, "models", "verify").returncode == 0
    assert state(studio, "sd15") == ("published", 0)
    vocabulary = models(studio) / "sd-v1-5-local/tokenizer/vocab.json"
    vocabulary.write_bytes(b"{}")
    done = call(studio, "models", "verify")
    assert done.returncode == 1
    assert "sd15: differs from the published sd15" in done.stdout
    assert "tokenizer/vocab.json" in done.stdout
    assert hashlib.sha256(b"{}").hexdigest() in done.stdout


def test_a_damaged_file_differs_and_another_model_is_not_published(studio: Path):
    pull(studio)
    file = models(studio) / "u2net.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    assert state(studio, "matte") == ("differs", 1)
    file.write_bytes(network("my own network", 20_000))
    assert state(studio, "matte") == ("differs", 1)
    configure(studio, "name: u2net", "name: u2net, path: models/mine.onnx")
    file.rename(file.with_name("mine.onnx"))
    assert state(studio, "matte") == ("unpublished", 0)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1677246742\n"


def test_a_file_that_is_no_weights_is_named_by_all_commands(studio: Path):
    pull(studio)
    (models(studio) / "triposr-base/model.ckpt").write_bytes(POINTER)
    (models(studio) / "u2net.onnx").write_bytes(b"<!doctype html>")
    entries = facts(studio, "models", "list")
    assert [one["present"] for one in entries] == [True] * 4
    assert [bool(one["mismatch"]) for one in entries] == [False, True, True, False]
    text = call(studio, "models", "list").stdout
    assert f"wrong: {models(studio) / 'triposr-base/model.ckpt'} is a Git LFS pointer" in text

    done = call(studio, "models", "verify")
    assert done.returncode == 1
    assert "triposr: differs from the published triposr" in done.stdout
    assert "wrong: " in done.stdout and "is a web page" in done.stdout
    assert state(studio, "triposr") == state(studio, "matte") == ("differs", 1)

    done = pull(studio)
    assert done.returncode == 1
    assert "nothing is missing" not in done.stderr
    assert "model.ckpt is a Git LFS pointer" in done.stderr
    assert "move it away, and `dna-pipeline models pull`" in done.stderr
    assert "u2net.onnx is a web page" in pull(studio, "u2net").stderr

    (models(studio) / "u2net.onnx").unlink()
    (models(studio) / "triposr-base/model.ckpt").unlink()
    assert pull(studio).returncode == 0
    assert call(studio, "models", "verify").returncode == 0


def write_manifest(
    studio: Path, name: str, when: str, sha256: str, path: str = "models/u2net.onnx"
) -> None:
    folder = studio / "outbox/in" / name
    folder.mkdir(parents=True)
    model = {"name": "matte", "path": path, "sha256": sha256}
    manifest = {"job": {"finished_at": when}, "stages": [{"model": model}, {"model": None}]}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_weights_that_changed_since_the_newest_result_are_told(studio: Path):
    pull(studio)
    sha256 = hashlib.sha256(RELEASED["u2net.onnx"]).hexdigest()
    write_manifest(studio, "a-1", "2026-01-01T00:00:00Z", "0" * 64)
    write_manifest(studio, "b-2", "2026-01-02T00:00:00Z", sha256)
    (result,) = json.loads(call(studio, "models", "verify", "matte", "--json").stdout)
    assert result["results"] == {"same": 1, "other": 1}
    assert (result["changed_since"], result["problem"]) == (None, None)
    write_manifest(studio, "c-3", "2026-01-03T00:00:00Z", "0" * 64)
    done = call(studio, "models", "verify", "matte")
    assert done.returncode == 1
    assert "changed since the result of 2026-01-03T00:00:00Z" in done.stdout


def test_results_of_either_variant_were_made_with_the_model(studio: Path, tmp_path: Path):
    pull(studio)
    half = models(studio) / "sd-v1-5-local" / UNET
    full = half.with_name(half.name.replace(".fp16", ""))
    full.write_bytes(b"the same numbers in float32")
    entry = Diffusers(path=models(studio) / "sd-v1-5-local").for_device(Device("cpu", "float16"))
    _, sha256 = Fingerprints(tmp_path).of(entry)
    assert sha256 is not None
    write_manifest(studio, "a-1", "2026-01-01T00:00:00Z", sha256, "models/sd-v1-5-local")
    (result,) = json.loads(call(studio, "models", "verify", "sd15", "--json").stdout)
    assert result["results"] == {"same": 1, "other": 0}
    assert result["changed_since"] is None
    assert result["sha256"] != sha256
    half.write_bytes(b"other numbers")
    (result,) = json.loads(call(studio, "models", "verify", "sd15", "--json").stdout)
    assert result["changed_since"] == "2026-01-01T00:00:00Z"


# --- export and import ---


@pytest.fixture
def other(tmp_path: Path) -> Path:
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "pipeline.yaml").write_text(CONFIG)
    return folder


def test_an_archive_carries_models_to_another_machine(studio: Path, other: Path, tmp_path: Path):
    pull(studio)
    archive = tmp_path / "models.tar"
    done = call(studio, "models", "export", str(archive))
    assert done.returncode == 0, done.stderr
    taken_in = call(other, "models", "import", str(archive))
    assert taken_in.returncode == 0, taken_in.stderr
    assert present(other) == ["sd15", "triposr", "matte", "key"]
    assert contents(models(other) / "triposr-base") == TRIPOSR
    unread = "feature_extractor/preprocessor_config.json"
    assert {**contents(models(other) / "sd-v1-5-local"), unread: SD[unread]} == SD
    again = call(other, "models", "import", str(archive))
    assert again.returncode == 0
    assert "is there already, the same" in again.stdout


def test_an_archive_of_some_models(studio: Path, other: Path, tmp_path: Path):
    pull(studio)
    call(studio, "models", "export", str(tmp_path / "one.tar"), "triposr")
    call(other, "models", "import", str(tmp_path / "one.tar"))
    assert present(other) == ["triposr", "key"]


def test_export_replaces_no_file(studio: Path, tmp_path: Path):
    pull(studio, "matte")
    archive = tmp_path / "models.tar"
    archive.write_bytes(b"mine")
    assert call(studio, "models", "export", str(archive)).returncode == 1
    assert archive.read_bytes() == b"mine"


def test_export_of_a_missing_model_is_refused(studio: Path, tmp_path: Path):
    done = call(studio, "models", "export", str(tmp_path / "x.tar"), "sd15")
    assert done.returncode == 1
    assert "models pull" in done.stderr
    assert not (tmp_path / "x.tar").exists()


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.mark.parametrize("file", ["mine.onnx", "Mine.ONNX"])
def test_models_of_one_name_get_places_of_their_own(
    studio: Path, other: Path, tmp_path: Path, file: str
):
    """The one below `models/` keeps its place, though it comes last."""
    two = f"""{{provider: rembg, name: u2net, path: {tmp_path}/disk/{file}}}
  again: {{provider: rembg, name: u2net, path: {tmp_path}/second/{file}}}
  own: {{provider: rembg, name: u2net, path: models/mine.onnx}}"""
    configure(studio, "{provider: rembg, name: u2net}", two)
    write(tmp_path / "disk" / file, b"one")
    write(tmp_path / "second" / file, b"two")
    write(models(studio) / "mine.onnx", b"three")
    done = call(studio, "models", "export", str(tmp_path / "models.tar"))
    assert done.returncode == 0, done.stderr
    done = call(other, "models", "import", str(tmp_path / "models.tar"))
    assert done.returncode == 0, done.stderr
    expected = {"mine.onnx": b"three", f"matte-{file}": b"one", f"again-{file}": b"two"}
    assert {path.name: path.read_bytes() for path in models(other).glob("*.[oO]*")} == expected


def test_a_file_that_two_models_share_is_in_the_archive_once(
    studio: Path, other: Path, tmp_path: Path
):
    """Such as the VAE of one, which another takes in place of its own."""
    pull(studio, "sd15")
    vae = "vae: models/sd-v1-5-local/vae/diffusion_pytorch_model.fp16.safetensors"
    shutil.copytree(models(studio) / "sd-v1-5-local", models(studio) / "mine")
    entry = "  sd15: {provider: diffusers, path: models/sd-v1-5-local}"
    mine = f"  mine: {{provider: diffusers, path: models/mine, {vae}}}"
    configure(studio, entry, f"{mine}\n{entry}")
    done = call(studio, "models", "export", str(tmp_path / "models.tar"))
    assert done.returncode == 0, done.stderr
    done = call(other, "models", "import", str(tmp_path / "models.tar"))
    assert done.returncode == 0, done.stderr
    assert present(other) == ["sd15", "key"]


@pytest.mark.skipif(os.name == "nt", reason="these names cannot be made there")
@pytest.mark.parametrize("name", ["real: v5.onnx", "why?.onnx", ".hidden/u.onnx", "sub./u.onnx"])
def test_a_name_that_import_refuses_is_not_exported(studio: Path, tmp_path: Path, name: str):
    configure(studio, "name: u2net", f"name: u2net, path: 'models/{name}'")
    write(models(studio) / name, b"x")
    done = call(studio, "models", "export", str(tmp_path / "models.tar"))
    assert done.returncode == 1
    assert f"matte: {name!r} is no name that every system takes; rename it" in done.stderr
    assert not (tmp_path / "models.tar").exists()
    assert not (studio / "data/weights.json").exists(), "no file was hashed"


def test_names_that_differ_in_case_are_not_exported(studio: Path, tmp_path: Path):
    for name in ("u.onnx", "U.onnx"):
        write(models(studio) / name, name.encode())
    if (models(studio) / "u.onnx").read_bytes() == b"U.onnx":
        pytest.skip("this file system does not tell them apart")
    two = """{provider: rembg, name: u2net, path: models/u.onnx}
  own: {provider: rembg, name: u2net, path: models/U.onnx}"""
    configure(studio, "{provider: rembg, name: u2net}", two)
    done = call(studio, "models", "export", str(tmp_path / "models.tar"))
    assert done.returncode == 1
    assert "matte and own: on systems where case does not count, 'models/u.onnx'" in done.stderr
    assert not (tmp_path / "models.tar").exists()


def test_import_replaces_no_model(studio: Path, other: Path, tmp_path: Path):
    pull(studio)
    call(studio, "models", "export", str(tmp_path / "models.tar"))
    file = models(other) / "u2net.onnx"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"mine")
    done = call(other, "models", "import", str(tmp_path / "models.tar"))
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert file.read_bytes() == b"mine"
    assert present(other) == ["matte", "key"], "the others were not taken in either"


def test_a_completion_that_was_killed_between_two_files_is_ended(studio: Path, hub: Hub):
    """The first file has both names already, the second one only that in the staging folder."""
    pull(studio, "sd15")
    folder, staging = models(studio) / "sd-v1-5-local", models(studio) / ".dna-pull/sd15"
    for name in ("unet/config.json", UNET):
        (staging / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).rename(staging / name)
    (folder / "unet/config.json").hardlink_to(staging / "unet/config.json")
    assert present(studio) == ["key"]
    hub.requests.clear()
    assert pull(studio).returncode == 0
    assert contents(folder) == SD
    assert not staging.exists()
    assert not any("/somebody/sd/" in one.path for one in hub.requests)


# --- what transfers leave ---


def test_what_a_pull_of_another_variant_left_is_said_and_discarded(studio: Path, hub: Hub):
    hub.answers[UNET.replace(".fp16", "")] = [Answer(404)]
    assert pull(studio, "sd15", "--full").returncode == 1
    left = models(studio) / ".dna-pull/sd15-full"
    assert contents(left)
    done = pull(studio)
    assert done.returncode == 0
    assert f"in {left}; `dna-pipeline models discard` removes them" in done.stderr
    assert left.exists()
    listed = call(studio, "models", "list").stderr
    assert f"in {left}; `dna-pipeline models discard` removes them" in listed
    (removed,) = facts(studio, "models", "discard")
    assert (removed["path"], removed["bytes"] > 0) == (str(left), True)
    assert not left.exists()
    assert contents(models(studio) / "sd-v1-5-local") == SD
    assert "discard" not in pull(studio).stderr + call(studio, "models", "list").stderr
    again = call(studio, "models", "discard")
    assert (again.returncode, again.stdout) == (0, "")
    assert "nothing is left" in again.stderr


def test_discard_waits_for_no_running_transfer(studio: Path):
    (models(studio) / ".dna-pull/sd15").mkdir(parents=True)
    (models(studio) / ".dna-pull/sd15/w.bin").write_bytes(b"half")
    with hold_lock(models(studio) / ".dna-pull"):
        done = call(studio, "models", "discard")
    assert done.returncode == 1
    assert "another `dna-pipeline models` command" in done.stderr
    assert (models(studio) / ".dna-pull/sd15/w.bin").exists()


# --- where the way is shown ---


def test_check_and_init_name_the_command(studio: Path, tmp_path: Path):
    assert "dna-pipeline models pull" in call(studio, "init", str(tmp_path / "new")).stderr
    line = next(x for x in call(studio, "check").stdout.splitlines() if x.startswith("model sd15"))
    assert line.endswith("or run `dna-pipeline models pull`")


def test_init_speaks_of_fetching_only_where_weights_are_missing(studio: Path):
    assert "dna-pipeline models pull" in call(studio, "init").stderr
    pull(studio)
    done = call(studio, "init")
    assert done.returncode == 0
    assert "is there already and stays" in done.stderr
    assert "models pull" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX closes the output")
def test_a_closed_output_is_no_error(studio: Path):
    command = 'exec "$0" -m dna_pipeline models list >&-'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable], cwd=studio, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
