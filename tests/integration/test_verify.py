"""`verify` compares the outbox with the ledger, and single jobs with their results."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.errors import EmptyMesh
from dna_pipeline.base.files import sha256_file
from dna_pipeline.ledger import queue
from tests.artifacts import write_all
from tests.commands import call
from tests.integration.conftest import Site


@pytest.fixture
def two(site: Site) -> Site:
    """Two results."""
    for name in ("cat", "dog"):
        site.put(f"{name}.png", name)
        site.settle()
        site.run_next()
    return site


def folders(site: Site) -> list[Path]:
    return [site.outbox / str(job.publish_name) for job in site.jobs()]


def verified(site: Site, *targets: str) -> tuple[int, list[dict[str, Any]]]:
    done = call(site.root, "verify", "--json", *targets)
    return done.returncode, json.loads(done.stdout)


def test_a_result_folder_that_is_gone_is_missing(two: Site) -> None:
    cat, dog = folders(two)
    shutil.rmtree(cat)
    status, (there, gone) = verified(two)
    assert status == 1
    assert (there["folder"], there["problems"], there["missing"]) == (str(dog), [], False)
    job = two.jobs()[0].id
    assert (gone["folder"], gone["job"], gone["missing"]) == (str(cat), job, True)
    assert gone["problems"] == [f"missing: the result folder of job {job[:8]} is not there"]
    done = call(two.root, "verify")
    assert f"{cat}: missing: " in done.stdout
    assert "2 results with 1 file looked at, 1 with problems" in done.stderr


def test_a_manifest_that_is_gone_is_missing(two: Site) -> None:
    (folders(two)[0] / "manifest.json").unlink()
    status, results = verified(two)
    assert status == 1
    assert [result["missing"] for result in results] == [False, True]
    assert "missing: manifest.json of job" in results[1]["problems"][0]


def test_a_result_that_people_moved_within_the_outbox_is_not_missing(two: Site) -> None:
    (two.outbox / "best").mkdir()
    folders(two)[0].rename(two.outbox / "best" / folders(two)[0].name)
    assert verified(two)[0] == 0
    status, (result,) = verified(two, two.jobs()[0].id)
    assert (status, Path(result["folder"]).parent) == (0, two.outbox / "best")


def test_only_the_jobs_that_are_named_are_looked_at(two: Site) -> None:
    cat, dog = two.jobs()
    shutil.rmtree(folders(two)[0])
    status, (result,) = verified(two, dog.id[:10])
    assert (status, result["job"], result["files"]) == (0, dog.id, 1)
    status, (result,) = verified(two, cat.id[:10])
    assert (status, result["missing"]) == (1, True)
    next(folders(two)[1].glob("*.png")).write_bytes(b"changed")
    assert verified(two, dog.id)[0] == 1
    assert verified(two, str(two.outbox))[0] == 1


def test_a_failed_job_and_one_whose_failure_was_retried_miss_nothing(two: Site) -> None:
    two.put("owl.png", b"owl")
    two.settle()
    job = two.claim_next()
    two.ledger.transact(lambda s: queue.fail(s, job.id, EmptyMesh("none").failure(), None))
    two.publish()
    assert verified(two)[0] == 0
    done = call(two.root, "verify", job.id)
    assert done.returncode == 2
    assert f"job {job.id[:8]} is failed; only completed jobs have results" in done.stderr


def test_what_is_neither_a_job_nor_a_path_is_a_wrong_call(two: Site) -> None:
    for target, words in (("ffff", "no job's id begins with"), ("x/y", "no such file or folder")):
        done = call(two.root, "verify", target)
        assert done.returncode == 2
        assert words in done.stderr


# --- opened ---

# imageio-ffmpeg leaves the pipes of an ffmpeg that has ended to the garbage collector.
OPENING = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


@pytest.fixture
def opened(site: Site) -> Path:
    """The folder of a result with files of every kind that the program writes."""
    site.put("cat.png", "cat")
    site.settle()
    site.run_next()
    (folder,) = folders(site)
    artifacts = write_all(folder)
    describe(folder, {file.path.name: file.facts for file in artifacts})
    return folder


def describe(folder: Path, facts: dict[str, dict[str, Any]]) -> None:
    """Make the manifest agree with the bytes of these files."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["artifacts"] = [
        {
            "path": name, "role": "any", "media_type": "any/any",
            "bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name), **known,
        }
        for name, known in facts.items()
    ]  # fmt: skip
    path.write_text(json.dumps(manifest))


def facts_of(folder: Path) -> dict[str, dict[str, Any]]:
    basic = ("path", "role", "media_type", "bytes", "sha256")
    artifacts = json.loads((folder / "manifest.json").read_bytes())["artifacts"]
    return {
        entry["path"]: {name: fact for name, fact in entry.items() if name not in basic}
        for entry in artifacts
    }


@OPENING
@pytest.mark.slow
def test_every_file_of_a_sound_result_is_opened(site: Site, opened: Path) -> None:
    status, (result,) = verified(site, "--open")
    assert (status, result["problems"]) == (0, [])
    assert (result["files"], result["opened"]) == (12, 11)  # a material is read with its mesh
    done = call(site.root, "verify", "--open")
    assert "1 result with 12 files looked at, 11 opened, 0 with problems" in done.stderr
    assert verified(site)[1][0]["opened"] == 0


@OPENING
@pytest.mark.slow
def test_only_opening_finds_what_was_damaged_before_it_was_hashed(site: Site, opened: Path) -> None:
    facts = facts_of(opened)
    names = ["cat.png", "cat.mp4", "plain.glb", "plain.stl"]
    for name in names:
        data = (opened / name).read_bytes()
        (opened / name).write_bytes(data[: len(data) * 2 // 3])
    describe(opened, facts)
    assert verified(site)[0] == 0
    job = site.job().id
    for targets in ([], [job[:10]], [str(opened)]):
        status, (result,) = verified(site, "--open", *targets)
        assert (status, result["missing"]) == (1, False)
        assert [problem.split(": ")[:2] for problem in result["problems"]] == [
            ["damaged", name] for name in names
        ]
    done = call(site.root, "verify", "--open")
    assert done.returncode == 1
    assert f"{opened}: damaged: plain.glb: cannot be opened: " in done.stdout


@OPENING
@pytest.mark.slow
def test_what_differs_from_the_manifest_is_told_with_both_values(site: Site, opened: Path) -> None:
    facts = facts_of(opened)
    facts["cat.png"]["width"] = 65
    facts["cat.mp4"]["fps"] = 24
    facts["plain.ply"]["faces"] = 35
    facts["plain.ply"]["vertices"] = 8
    describe(opened, facts)
    status, (result,) = verified(site, "--open")
    assert status == 1
    assert result["problems"] == [
        "damaged: cat.png: width 64, in the manifest 65",
        "damaged: cat.mp4: fps 12.0, in the manifest 24",
        "damaged: plain.ply: faces 36, in the manifest 35; vertices 24, in the manifest 8",
    ]


@OPENING
@pytest.mark.slow
def test_a_file_that_is_gone_is_told_once(site: Site, opened: Path) -> None:
    (opened / "cat.png").unlink()
    (opened / "painted.mtl").write_bytes(b"")
    status, (result,) = verified(site, "--open")
    assert status == 1
    assert result["opened"] == 10
    assert [problem.split(": ")[0] for problem in result["problems"]] == [
        "cat.png", "damaged", "painted.mtl",
    ]  # fmt: skip


@OPENING
@pytest.mark.slow
def test_only_opening_imports_the_readers(opened: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from dna_pipeline.operations.verify import verify\n"
        "for opens in (False, True):\n"
        "    verify([Path(sys.argv[1])], opens=opens)\n"
        "    print(*sorted({'PIL', 'imageio', 'numpy', 'trimesh'} & sys.modules.keys()))\n"
    )
    command = [sys.executable, "-c", code, str(opened)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["", "PIL imageio numpy trimesh"]


def test_a_file_of_a_result_stands_for_the_result(two: Site) -> None:
    cat = folders(two)[0]
    status, (result,) = verified(two, str(cat / "cat.matte.png"))
    assert (status, result["folder"], result["problems"]) == (0, str(cat), [])
    stray = two.root / "stray.png"
    stray.write_bytes(b"")
    done = call(two.root, "verify", str(stray))
    assert done.returncode == 2
    assert "there is no manifest.json beside it" in done.stderr
