"""A table of many rows, some of them wrong, as a studio would drop it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import PHOTOGRAPHS, Studio, photograph
from PIL import Image

from dna_pipeline.ledger.sqlite import open_reader
from tests import fork_server
from tests.conftest import SCRIPTS, load_script
from tests.fork_server import Process

pytestmark = pytest.mark.slow

trace = load_script("stand_in").trace

KEYS = "settle_seconds: 0.2, sidecar_wait_seconds: 0.4, rescan_seconds: 1"
CONFIG = f"""\
version: 1
models:
  sd15: {{{{provider: diffusers, path: {{models}}/sd-v1-5-local}}}}
  matte: {{{{provider: border_key}}}}
pipelines:
  copy: [{{{{stand_in: {{{{}}}}}}}}]
  cut: [{{{{remove_background: {{{{}}}}}}}}]
  restyle: [{{{{img2img: {{{{steps: 4, max_size: 64}}}}}}}}]
inboxes:
  - {{{{path: inbox/library, pipeline: copy, source_roots: [library], {KEYS}}}}}
  - {{{{path: inbox/beside, pipeline: copy, {KEYS}}}}}
  - {{{{path: inbox/kept, pipeline: copy, originals: keep, {KEYS}}}}}
"""
COLUMNS = (
    "image", "pipeline", "priority", "not_before", "stand_in.seconds", "remove_background.model",
    "img2img.prompt", "img2img.steps", "img2img.strength", "meta.shot",
)  # fmt: skip

WRONG: list[tuple[dict[str, str], str, str | None]] = [
    ({"image": "nowhere.png"}, "image_missing", "image"),
    ({"image": "../../etc/passwd"}, "path_escapes_inbox", "image"),
    ({"image": ""}, "parameter_invalid", "image"),
    ({"image": "cut off.png"}, "image_unreadable", "image"),
    ({"image": "dot.png"}, "image_too_small", "image"),
    ({"pipeline": "sculpt"}, "unknown_pipeline", "pipeline"),
    ({"priority": "soon"}, "parameter_invalid", "priority"),
    ({"not_before": "next tuesday"}, "parameter_invalid", "not_before"),
    ({"stand_in.seconds": "little"}, "parameter_invalid", "stand_in.seconds"),
    ({"img2img.prompt": "a hat"}, "sidecar_invalid", "img2img.prompt"),
    ({"pipeline": "cut", "remove_background.model": "sdxl"},
     "unknown_model", "remove_background.model"),
    ({"pipeline": "restyle", "img2img.strength": "1.5"}, "parameter_invalid", "img2img.strength"),
    ({"pipeline": "restyle", "img2img.steps": "2", "img2img.strength": "0.3"},
     "no_effective_steps", "img2img.steps"),
    ({"": "astray"}, "sidecar_invalid", None),
]  # fmt: skip
"""What a row says instead of what is right, and the code and the column that answer it."""

MANY_WRONG = 20
DONE = "SELECT count(*) FROM jobs WHERE publish = 'done'"


def faults(rows: int) -> dict[int, tuple[dict[str, str], str, str | None]]:
    """The wrong rows, by the numbers that a spreadsheet shows."""
    return {rows // MANY_WRONG * n: WRONG[n % len(WRONG)] for n in range(1, MANY_WRONG + 1)}


def table(rows: int, *, mended: bool = False) -> str:
    wrong = {} if mended else faults(rows)
    lines = [",".join(COLUMNS)]
    for number in range(2, rows + 2):
        row = {"image": f"{number:04}.png", "meta.shot": f"shot {number}"}
        row |= wrong[number][0] if number in wrong else {}
        cells = [row.get(column, "") for column in COLUMNS]
        lines.append(",".join([*cells, row[""]] if "" in row else cells))
    return "\r\n".join(lines) + "\r\n"


def images(folder: Path, rows: int, *, also_unnamed: bool = True) -> None:
    """A picture for each row, no two alike; one that breaks off, and one that is too small.

    Args:
        also_unnamed: those too whose row names another instead.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wrong = {} if also_unnamed else faults(rows)
    for number in range(2, rows + 2):
        if number not in wrong or "image" not in wrong[number][0]:
            color = (number % 256, number // 256, 90)
            Image.new("RGB", (24, 24), color).save(folder / f"{number:04}.png")
    whole = (folder / "0002.png").read_bytes()
    (folder / "cut off.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (1, 1)).save(folder / "dot.png")


@pytest.fixture
def studio(tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Studio:
    """With the stage of `stand_in`, in reach of all that is started here."""
    root = tmp_path / "studio"
    info = tmp_path / "site/stand_in-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stand_in\n")
    (info / "entry_points.txt").write_text("[dna_pipeline.stages]\nstand_in = stand_in:StandIn\n")
    paths = [str(info.parent), str(SCRIPTS), str(SCRIPTS.parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    studio = Studio(root)
    for name in ("library", "beside", "kept"):
        studio.inbox(name).mkdir(parents=True)
    (root / "pipeline.yaml").write_text(CONFIG.format(models=models_dir))
    return studio


def start(studio: Studio, *flags: str, fault: str = "") -> Process:
    """The daemon with its cheap worker."""
    return studio.start("stand_in", "pipeline.yaml", *flags, env=os.environ | {"DNA_FAULT": fault})


def run(studio: Studio) -> None:
    assert start(studio, "--until-idle").wait(200) == 0, (studio.root / "watch.log").read_text()


def account(studio: Studio, inbox: str, number: int) -> list[dict[str, str]]:
    """The rows of the newest batch's batch.csv, there being so many batches."""
    found = sorted(studio.outbox.glob(f"{inbox}/*/batch.csv"), key=lambda path: path.stat().st_ino)
    folders = ask(studio, "SELECT stem || '-' || substr(id, 1, 8) FROM batches ORDER BY created_at")
    assert len(found) == len(folders) == number
    path = studio.outbox / inbox / folders[-1] / "batch.csv"
    text = path.read_bytes().decode("utf-8-sig")
    delimiter = text.removeprefix("row")[0]  # that of the table that it answers
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))


def ask(studio: Studio, question: str) -> list[Any]:
    """The first column of what the ledger answers."""
    connection = open_reader(studio.root / "data/ledger.db")
    try:
        return [row[0] for row in connection.execute(question)]
    finally:
        connection.close()


def check_as_told(studio: Studio, inbox: str, rows: int) -> None:
    """Each row has come to what it should, and nothing twice."""
    wrong = faults(rows)
    told = account(studio, inbox, 1)
    assert [row["row"] for row in told] == [str(number) for number in range(2, rows + 2)]
    for row in told:
        number = int(row["row"])
        if number in wrong:
            _, code, column = wrong[number]
            assert (row["status"], row["code"], row["column"]) == ("wrong", code, column or "")
            assert row["detail"].startswith(f"row {number}: ")
        else:
            assert (row["status"], row["image"].rpartition("/")[2]) == (
                "completed", f"{number:04}.png",
            )  # fmt: skip
    is_each_once(studio, inbox, rows - len(wrong))


def is_each_once(studio: Studio, inbox: str, number: int) -> None:
    """So many results there are, each of another image, whole, and in the account."""
    manifests = [
        json.loads(p.read_bytes()) for p in studio.outbox.glob(f"{inbox}/*/*/manifest.json")
    ]
    named = Counter(manifest["input"]["name"] for manifest in manifests)
    assert (len(manifests), set(named.values())) == (number, {1})
    shots = {m["input"]["name"]: m["job"]["meta"]["shot"] for m in manifests}
    assert shots == {name: f"shot {int(name[:4])}" for name in shots}
    assert ask(studio, "SELECT count(*) FROM jobs") == [number]
    assert not list(studio.outbox.glob(f"{inbox}/failed/*"))
    assert not list(studio.root.glob("data/work/*"))
    assert not list(studio.root.glob("data/claims/*"))


def again(studio: Studio, inbox: str, rows: int, nth: int, *, mended: bool) -> Counter[str]:
    """What becomes of the rows of the same table, dropped for the n-th time."""
    (studio.inbox(inbox) / "shots.csv").write_text(table(rows, mended=mended))
    run(studio)
    return Counter(row["status"] for row in account(studio, inbox, nth))


def test_many_rows_twenty_of_them_wrong_and_three_kills(studio: Studio) -> None:
    rows = 160
    images(studio.root / "library", rows)
    (studio.inbox("library") / "shots.csv").write_text(table(rows))

    checked = studio.cli("check", "--json")

    assert checked.returncode == 2
    jobs = json.loads(checked.stdout)["jobs"]
    found = {j["row"]: (j["error"], j["column"]) for j in jobs if j["error"] is not None}
    assert found == {number: fault[1:] for number, fault in faults(rows).items()}
    assert [job["row"] for job in jobs] == list(range(2, rows + 2))
    assert {job["file"] for job in jobs if job["row"] == 8} == {"../../etc/passwd"}
    lines = [
        line for line in studio.cli("check").stdout.splitlines() if "shots.csv row 72 " in line
    ]
    assert len(lines) == 1
    assert "row 72: the pipeline 'copy' has no stage 'img2img'" in lines[0]

    kill_three_times(studio, "image-taken:60", 20, 60)
    run(studio)
    check_as_told(studio, "library", rows)
    assert again(studio, "library", rows, 2, mended=False) == {"skipped": 140, "wrong": 20}
    assert again(studio, "library", rows, 3, mended=True) == {"skipped": 140, "completed": 20}
    is_each_once(studio, "library", rows)
    assert studio.leftovers() == []
    verified = studio.cli("verify")
    assert (verified.returncode, "160 results" in verified.stderr) == (0, True), verified.stderr


def kill_three_times(studio: Studio, fault: str, *done: int) -> None:
    """While it is taken in, and whenever so many jobs are done, the worker with it."""
    assert start(studio, fault=fault).wait(60) == 137
    assert ask(studio, "SELECT state FROM batches") == ["claiming"]
    for number in done:
        daemon = start(studio)
        studio.wait(lambda n=number: ask(studio, DONE)[0] >= n)
        daemon.kill()
        daemon.wait()


@pytest.mark.parametrize("inbox", ["beside", "kept"])
def test_images_beside_their_table(studio: Studio, inbox: str) -> None:
    rows = 60
    here = studio.inbox(inbox)
    images(here, rows, also_unnamed=False)
    (here / "shots.csv").write_text(table(rows))
    before = left(studio, inbox)

    if inbox == "beside":
        kill_three_times(studio, "image-taken:30", 10, 25)
    run(studio)

    check_as_told(studio, inbox, rows)
    if inbox == "kept":
        assert left(studio, inbox) == before
    else:
        # What wrong rows name stays, and nobody else takes it.
        named = {number for number, (said, *_) in faults(rows).items() if "image" not in said}
        stay = {f"{number:04}.png" for number in named}
        assert left(studio, inbox) == stay | {"cut off.png", "dot.png"}
    assert ask(studio, "SELECT count(*) FROM jobs") == [40]
    images(here, rows)
    for name in ("cut off.png", "dot.png"):  # which the mended table does not name
        (here / name).unlink(missing_ok=True)
    assert again(studio, inbox, rows, 2, mended=True) == {"skipped": 40, "completed": 20}
    is_each_once(studio, inbox, rows)
    verified = studio.cli("verify")
    assert (verified.returncode, "60 results" in verified.stderr) == (0, True), verified.stderr


def left(studio: Studio, inbox: str) -> set[str]:
    """What lies in the inbox, what is taken in not counted."""
    return {path.name for path in studio.inbox(inbox).iterdir() if path.is_file()}


def test_a_table_for_a_real_model(studio: Studio) -> None:
    lines = ["image;pipeline;img2img.prompt;img2img.seed;img2img.strength"]
    for number in range(12):
        name = PHOTOGRAPHS[number % 4]
        photograph(name, 64).save(studio.inbox("kept") / f"{name}.jpg")
        strength = "1,5" if number in (5, 9) else "0.5"
        lines.append(f'{name}.jpg;restyle;"a clay {name}, take {number}";{number};{strength}')
    (studio.inbox("kept") / "shots.csv").write_text("\ufeff" + "\r\n".join(lines))

    studio.server = fork_server.heavy

    report = studio.facts("run")

    assert (report["completed"], report["failed"]) == (10, 0)
    told = account(studio, "kept", 1)
    assert [row["row"] for row in told if row["status"] == "wrong"] == ["7", "11"]
    for number, row in enumerate(told):
        if row["status"] == "completed":
            (path,) = studio.outbox.glob(f"kept/*/{Path(row['result']).name}/manifest.json")
            params = json.loads(path.read_bytes())["stages"][0]["params"]
            name = PHOTOGRAPHS[number % 4]
            assert params["prompt"] == f"a clay {name}, take {number}"
            assert (str(params["seed"]), row["seed"]) == (str(number), str(number))


def test_thirty_photographs_and_then_how(studio: Studio) -> None:
    inbox = studio.inbox("beside")
    daemon = start(studio)
    try:
        for number in range(30):
            picture = studio.root / "picture.jpg"
            photograph(PHOTOGRAPHS[number % 4], 64 + number).save(picture)
            data = picture.read_bytes()
            with (inbox / f"{number:02}.jpg").open("wb", buffering=0) as file:
                for begin in range(0, len(data), len(data) // 3 + 1):
                    file.write(data[begin : begin + len(data) // 3 + 1])
                    time.sleep(0.04)
        (inbox / "all.yaml").write_text(
            'images: "*.jpg"\npipeline: restyle\nimg2img: {prompt: a clay figurine, seed: -1}\n'
            "not_before: 2199-01-01T00:00:00Z\n"
        )
        studio.wait(lambda: len(studio.jobs()) >= 30)
        time.sleep(2)  # in which nothing more should come
    finally:
        daemon.terminate()
        assert daemon.wait(60) == 0

    resolved = [
        json.loads(stages)[0]["params"] for stages in ask(studio, "SELECT stages FROM jobs")
    ]
    assert sorted(ask(studio, "SELECT name FROM jobs")) == [f"{n:02}.jpg" for n in range(30)]
    assert [params["prompt"] for params in resolved] == ["a clay figurine"] * 30
    assert len({params["seed"] for params in resolved}) == 30
    assert {row["status"] for row in account(studio, "beside", 1)} == {"queued"}
    assert left(studio, "beside") == set()


def test_ten_exports_while_the_first_is_worked_on(studio: Studio) -> None:
    """What lies in the inbox is never touched, and only the newest is made besides the first."""
    render, part = studio.inbox("kept") / "render.png", studio.inbox("kept") / "render.tmp"
    (studio.inbox("kept") / "render.yaml").write_text("stand_in: {seconds: 9}\n")
    queued = "SELECT d.sha256 FROM jobs j JOIN drops d ON d.id = j.drop_id WHERE j.status = "
    versions: list[bytes] = []
    daemon = start(studio)
    try:
        for number in range(11):
            Image.new("RGB", (32, 32), (20 * number, 90, 90)).save(part, "PNG")
            versions.append(part.read_bytes())
            if number % 2:
                render.write_bytes(versions[-1])
            else:
                part.rename(render)
            before = render.stat()
            status = "'queued'" if number else "'running'"
            sha256 = hashlib.sha256(versions[-1]).hexdigest()
            studio.wait(
                lambda s=status, h=sha256: is_known(studio) and ask(studio, queued + s) == [h]
            )
            after = render.stat()
            assert render.read_bytes() == versions[-1]
            for field in ("st_ino", "st_nlink", "st_mtime_ns", "st_ctime_ns"):
                assert getattr(after, field) == getattr(before, field)
        assert ask(studio, "SELECT count(*) FROM jobs WHERE status = 'running'") == [1]
        jobs = studio.ended(2)
    finally:
        daemon.terminate()
        assert daemon.wait(60) == 0

    assert [job["status"] for job in jobs] == ["completed"] * 2
    made = [studio.outbox / job["publish_name"] / "manifest.json" for job in reversed(jobs)]
    named = [json.loads(path.read_bytes())["input"]["sha256"] for path in made]
    assert named == [hashlib.sha256(versions[i]).hexdigest() for i in (0, -1)]
    assert (made[0].parent / "render.png").read_bytes() == versions[0] + trace("stand_in")
    latest = studio.outbox / "kept/latest/render.png"
    assert latest.read_bytes() == versions[-1] + trace("stand_in")
    assert left(studio, "kept") == {"render.png", "render.yaml"}
    assert ask(studio, "SELECT count(*) FROM jobs") == [2]


def is_known(studio: Studio) -> bool:
    """Whether there is a ledger to ask yet."""
    return bool(studio.jobs())
