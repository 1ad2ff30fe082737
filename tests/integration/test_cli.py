"""The commands as people and programs call them; no daemon, no models."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.commands import call, call_apart, facts

CONFIG = """\
version: 1
models: {matte: {provider: border_key}}
pipelines: {cut: [{remove_background: {}}]}
inboxes: [{path: inbox/cut, pipeline: cut}]
"""


def picture(path: Path) -> Path:
    image = Image.new("RGB", (64, 64), "white")
    image.paste((200, 30, 30), (20, 20, 44, 44))
    image.save(path)
    return path


def submit(folder: Path, name: str = "box.png") -> str:
    done = call(folder, "submit", str(picture(folder / name)))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_init_writes_a_valid_configuration_and_overwrites_nothing(tmp_path: Path):
    assert call_apart(tmp_path, "init", "studio").returncode == 0
    studio = tmp_path / "studio"
    assert call_apart(studio, "check").returncode == 0
    (studio / "pipeline.yaml").write_text(CONFIG)
    again = call(tmp_path, "init", "studio")
    assert again.returncode == 0
    assert "stays as it is" in again.stderr
    assert (studio / "pipeline.yaml").read_text() == CONFIG


def test_the_project_s_own_configuration_is_what_init_writes():
    root = Path(__file__).parents[2]
    template = root / "dna_pipeline/interfaces/cli/templates/pipeline.yaml"
    assert (root / "pipeline.yaml").read_bytes() == template.read_bytes()


@pytest.mark.parametrize(
    "arguments",
    [["jobs"], ["show", "abc"], ["events"], ["cancel", "abc"], ["retry", "abc"]],
)
def test_before_there_is_a_ledger(studio: Path, arguments: list[str]):
    done = call(studio, *arguments)
    assert done.returncode == 2
    assert "there is no ledger yet" in done.stderr
    assert done.stdout == ""


def test_status_before_anything_was_done(studio: Path):
    assert call(studio, "status").stdout.startswith("daemon    none runs")


@pytest.mark.slow
def test_no_configuration(tmp_path: Path):
    done = call_apart(tmp_path, "status")
    assert done.returncode == 2
    assert "dna-pipeline init" in done.stderr


def test_a_wrong_configuration_names_line_and_mend(studio: Path):
    (studio / "pipeline.yaml").write_text(CONFIG + "runtime: {devise: cpu}\n")
    done = call(studio, "status")
    assert done.returncode == 2
    assert "line 5" in done.stderr
    assert "device" in done.stderr


@pytest.mark.slow
def test_config_by_option_and_by_environment(
    studio: Path, tmp_path_factory: pytest.TempPathFactory
):

    elsewhere = tmp_path_factory.mktemp("elsewhere")
    config = str(studio / "pipeline.yaml")
    assert call_apart(elsewhere, "--config", config, "status").returncode == 0
    assert call_apart(elsewhere, "status", env=os.environ | {"DNA_CONFIG": config}).returncode == 0


@pytest.mark.slow
def test_check_tells_what_would_run_and_what_is_wrong(studio: Path):
    inbox = studio / "inbox/cut"
    picture(inbox / "good.png")
    (inbox / "good.yaml").write_text("priority: 5")
    picture(inbox / "bad.png")
    (inbox / "bad.yaml").write_text("remove_background: {forse: true}")
    (inbox / "words.png").write_text("hello")
    done = call(studio, "check", "--json")
    assert done.returncode == 2
    jobs = {job["file"]: job for job in json.loads(done.stdout)["jobs"]}
    assert jobs["good.png"]["pipeline"] == "cut"
    assert jobs["good.png"]["priority"] == 5
    assert jobs["bad.png"]["error"] == "sidecar_invalid"
    assert "force" in jobs["bad.png"]["detail"]
    assert jobs["words.png"]["error"] == "image_unreadable"
    assert sorted(p.name for p in inbox.iterdir()) == [
        "bad.png", "bad.yaml", "good.png", "good.yaml", "words.png",
    ]  # fmt: skip
    assert not (studio / "data").exists(), "check changes nothing"


@pytest.mark.slow
@pytest.mark.parametrize("empty", [False, True], ids=["gone", "empty"])
@pytest.mark.parametrize(
    "arguments", [["status"], ["status", "--json"], ["check"], ["jobs"]], ids=" ".join
)
def test_a_lost_ledger_is_no_new_beginning(studio: Path, arguments: list[str], empty: bool):
    submit(studio)
    for path in studio.glob("data/ledger.db*"):
        path.unlink()
    if empty:
        (studio / "data/ledger.db").touch()
    done = call(studio, *arguments)
    assert done.returncode == 2
    assert f"the ledger is damaged (it is {'empty' if empty else 'gone'})" in done.stderr
    assert "dna-pipeline repair" in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("partial", "content"),
    [("dl.Xa1b2.png.part", b""), ("dl.png.part", b""), ("dl.png.aria2", b"half of it")],
)
def test_check_waits_for_a_download_as_run_does(studio: Path, partial: str, content: bytes):
    inbox = studio / "inbox/cut"
    (inbox / "dl.png").write_bytes(content)
    (inbox / "dl.yaml").write_text("priority: 5")
    (inbox / partial).write_bytes(b"half")
    picture(inbox / "good.png")
    done = call(studio, "check", "--json")
    assert done.returncode == 0
    said = json.loads(done.stdout)
    assert [job["file"] for job in said["jobs"]] == ["good.png"]
    reasons = {entry["file"]: entry["reason"] for entry in said["waiting"]}
    assert set(reasons) == {"dl.png", "dl.yaml"}
    assert "still being downloaded" in reasons["dl.png"]
    (inbox / "good.png").unlink()
    done = call(studio, "check")
    assert (done.returncode, "nothing waits" in done.stdout) == (0, False)
    assert "waiting cut/dl.png: still being downloaded" in done.stdout
    ran = call(studio, "run", "--json")
    assert ran.returncode == 0
    assert {e["file"]: e["reason"] for e in json.loads(ran.stdout)["waiting"]} == reasons
    (inbox / partial).unlink()
    if not content:
        assert facts(studio, "check")["jobs"][0]["error"] == "image_unreadable"


@pytest.mark.parametrize(
    ("teller", "text"), [("job.yaml", "image: dl.png"), ("table.csv", "image\ndl.png\n")]
)
def test_check_waits_for_a_download_that_is_named(studio: Path, teller: str, text: str):
    inbox = studio / "inbox/cut"
    (inbox / "dl.png").touch()
    (inbox / "dl.Xa1b2.png.part").write_bytes(b"half")
    (inbox / teller).write_text(text)
    said = facts(studio, "check")
    assert said["jobs"] == []
    assert {entry["file"] for entry in said["waiting"]} == {"dl.png", teller}


def remember(studio: Path, job: str, seconds: float) -> None:
    """As if that job had been done, and had taken so long."""
    with sqlite3.connect(studio / "data/ledger.db") as ledger:
        ledger.execute(
            """INSERT INTO stage_runs (job_id, stage_id, type, params, device, dtype, batch_size,
                attempt, seconds, warnings, environment, finished_at)
            SELECT id, 'remove_background', 'remove_background',
                json_extract(stages, '$[0].params'), 'cpu', 'float32', 1, 1, ?, '[]', '{}',
                created_at FROM jobs WHERE id = ?""",
            (seconds, job),
        )
    ledger.close()


@pytest.mark.slow
def test_status_and_check_tell_how_long_it_will_take(studio: Path):
    for name in ("a.png", "b.png"):
        picture(studio / "inbox/cut" / name)
    assert "nothing is wrong; 2 jobs, no history yet, 1 MiB" in call(studio, "check").stdout
    job = submit(studio)
    assert "time      no history yet" in call(studio, "status").stdout
    assert "2 jobs, no history yet" in call(studio, "check").stdout
    remember(studio, job, 6000)
    assert "time      about 1 h 40 min left" in call(studio, "status").stdout
    assert facts(studio, "status")["queue_eta_s"] == 6000
    assert "2 jobs, about 3 h 20 min, 1 MiB" in call(studio, "check").stdout
    told = facts(studio, "check")
    assert (told["seconds"], told["disk_bytes"]) == (12_000, 2 * 8 * 64 * 64)
    assert [job["seconds"] for job in told["jobs"]] == [6000, 6000]


def test_jobs_show_events_by_any_unique_prefix(studio: Path):
    job = submit(studio)
    other = submit(studio, "other.png")
    listed = facts(studio, "jobs")
    assert [entry["id"] for entry in listed] == [other, job], "newest first"
    assert facts(studio, "jobs", "--limit", "1")[0]["id"] == other
    assert facts(studio, "jobs", "--status", "failed") == []
    assert facts(studio, "show", job[:9])["drop"]["bytes"] > 0
    shown = call(studio, "show", job).stdout
    assert "box.png" in shown
    lines = call(studio, "events", job[:9], "--json").stdout.splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["queued"]
    missing = call(studio, "show", "zzz")
    assert missing.returncode == 2
    assert "no job's id begins with 'zzz'" in missing.stderr


def test_cancel_a_queued_job_at_once(studio: Path):
    job = submit(studio)
    assert call(studio, "cancel", job[:9]).returncode == 0
    assert facts(studio, "jobs")[0]["status"] == "cancelled"
    again = call(studio, "cancel", job[:9])
    assert again.returncode == 2
    assert "ended already" in again.stderr


@pytest.mark.slow
def test_what_can_be_cancelled_is_and_what_ended_is_told(studio: Path):
    ended, queued = submit(studio, "a.png"), submit(studio, "b.png")
    call(studio, "cancel", ended)
    done = call(studio, "cancel", queued, ended, queued)
    assert (done.returncode, done.stdout) == (2, f"{queued[:8]} cancelled\n")
    assert f"not cancelled: {ended[:8]} (cancelled)" in done.stderr
    assert call(studio, "cancel", queued, ended, "--json").stdout == "[]\n"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a file of Linux's that cannot be read")
def test_what_can_be_submitted_is_and_what_is_wrong_is_told(studio: Path):
    (studio / "words.png").write_text("hello")
    picture(studio / "a.png")
    done = call(studio, "submit", "words.png", "/proc/self/mem", "a.png")
    assert done.returncode == 2
    assert [job["id"] for job in facts(studio, "jobs")] == done.stdout.split()
    assert "words.png: " in done.stderr
    assert "/proc/self/mem: Input/output error" in done.stderr


def no_folder(studio: Path) -> None:
    (studio / "data").write_text("")


def no_file(studio: Path) -> None:
    (studio / "data/ledger.db").mkdir(parents=True)


@pytest.mark.parametrize("command", ["run", "pause", "submit"])
@pytest.mark.parametrize("spoil", [no_folder, no_file])
def test_surroundings_that_are_wrong_are_told_in_a_line(
    studio: Path, spoil: Callable[[Path], None], command: str
):
    """No traceback, and not exit status 1, which is that a job failed."""
    spoil(studio)
    images = [str(picture(studio / "a.png"))] if command == "submit" else []
    done = call(studio, command, *images)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("dna-pipeline: ")]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_pause_holds_the_queue_until_resume(studio: Path):
    submit(studio)
    call(studio, "pause")
    report = facts(studio, "run")
    assert report["completed"] == 0
    assert report["holds"][0]["code"] == "paused"
    call(studio, "resume")
    assert facts(studio, "run")["completed"] == 1


@pytest.mark.slow
def test_nothing_but_facts_on_standard_output(studio: Path):
    submit(studio)
    done = call_apart(studio, "run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["completed"] == 1
    assert "job.published" in done.stderr


@pytest.mark.slow
def test_a_wrong_submission_queues_nothing(studio: Path):
    (studio / "words.png").write_text("hello")
    done = call(studio, "submit", "words.png")
    assert done.returncode == 2
    assert "image_unreadable" in done.stderr
    assert call(studio, "submit", "nowhere.png").returncode == 2
    assert call(studio, "submit", str(picture(studio / "a.png")), "--set", "x").returncode == 2
    assert list((studio / "data").rglob("*.png")) == []


@pytest.mark.slow
def test_names_cannot_steer_the_terminal(studio: Path):
    submit(studio, "\x1b[31mred.png")
    assert "\x1b" not in call(studio, "jobs").stdout
    assert "\\x1b[31mred.png" in call(studio, "jobs").stdout


EVIL = "\x1b]0;owned\x07\u202egnp\r\x9b31m"


def evil_studio(studio: Path) -> Path:
    """Everything that a stranger or an owner names is meant to steer a terminal."""
    config = {
        "version": 1,
        "models": {"matte": {"provider": "border_key"},
                   EVIL: {"provider": "rembg", "name": "u2net"}},
        "pipelines": {"cut": [{"remove_background": {"model": "matte"}}]},
        "inboxes": [{"path": "inbox/cut", "pipeline": "cut", "settle_seconds": 0}],
    }  # fmt: skip
    (studio / "pipeline.yaml").write_text(json.dumps(config))
    inbox = studio / "inbox/cut"
    picture(inbox / f"{EVIL}.png").rename(inbox / f"{EVIL}.png")
    (inbox / f"{EVIL}.png.yaml").write_text(json.dumps({EVIL: 1, "tags": [EVIL]}))
    (inbox / "b.yaml").write_text(json.dumps({"image": f"../{EVIL}"}))
    picture(inbox / "c.png")
    (inbox / "c.yaml").write_text(json.dumps({"pipeline": EVIL}))
    (inbox / "d.yaml").write_text(f"a: '{EVIL}'".replace("\x07", ""))
    (inbox / f"{EVIL}.jxl").write_text("")
    (inbox / os.fsdecode(b"caf\xe9.png")).write_text("no picture")
    return studio


@pytest.mark.slow
def test_whatever_strangers_write_no_command_lets_it_steer_the_terminal(studio: Path):
    evil_studio(studio)
    calls = [
        ("check",),
        ("run",),
        ("status",),
        ("jobs",),
        ("events",),
        ("verify",),
        ("cancel", EVIL),
        ("show", EVIL),
        ("submit", EVIL),
        ("submit", f"inbox/cut/{EVIL}.jxl"),
        ("schema", "sidecar"),
        ("show", f"{EVIL}.png"),
        ("sheet", "--inbox", "cut", "-o", "sheet"),
        ("sheet", "--inbox", EVIL),
        ("open", EVIL),
        ("open",),
        ("repair",),
    ]
    told = [(arguments, call(studio, *arguments)) for arguments in calls]
    for job in facts(studio, "jobs"):
        told.append((("show", job["id"]), call(studio, "show", job["id"])))
        assert facts(studio, "show", job["id"])["id"] == job["id"]
    for arguments, done in told:
        for text in (done.stdout, done.stderr):
            assert "Traceback" not in text, (arguments, text)
            assert all(line.isprintable() for line in text.split("\n")), (arguments, text)
    for arguments in (("check",), ("status",), ("jobs",), ("verify",)):
        json.loads(call(studio, *arguments, "--json").stdout, parse_constant=pytest.fail)
    assert "owned" in call(studio, "jobs").stdout


def test_a_wrong_configuration_cannot_steer_the_terminal(studio: Path):
    evil = json.dumps({"version": 1, "pipelines": {EVIL: EVIL}, EVIL: {EVIL: 1}})
    named = studio / f"{EVIL}.yaml"
    named.write_text(evil)
    for arguments in (("--config", str(named), "check"), ("--config", f"{EVIL}x", "status")):
        done = call(studio, *arguments)
        assert done.returncode == 2
        assert all(line.isprintable() for line in done.stderr.split("\n")), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", ["jobs", "status"])
def test_looking_loads_no_models_and_no_torch(studio: Path, command: str):
    submit(studio)
    code = (
        "import sys; from dna_pipeline.interfaces.cli.main import app\n"
        f"app(['{command}'], standalone_mode=False)\n"
        "heavy = {'torch', 'numpy', 'diffusers', 'structlog', 'sqlalchemy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=studio, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_commands_load_without_looking_for_installed_packages():
    code = (
        "import sys, dna_pipeline.interfaces.cli.main\n"
        "slow = {'importlib.metadata', 'email', 'zipfile'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- batches ---


def folder_of_batch(studio: Path) -> str:
    (folder,) = (studio / "outbox/cut").glob("shots-*")
    return folder.name


@pytest.fixture
def shots(studio: Path) -> Path:
    """A table of three rows, one of them wrong, was taken in while the queue was paused."""
    inbox = studio / "inbox/cut"
    for name in ("a.png", "b.png"):
        picture(inbox / name)
    (inbox / "shots.csv").write_text("image,priority\na.png,1\nb.png,2\nb.png,high\n")
    assert call(studio, "pause").returncode == 0
    return studio


@pytest.mark.slow
def test_run_tells_the_rows_that_were_wrong(shots: Path):
    done = call(shots, "run")
    assert done.returncode == 1
    folder = folder_of_batch(shots)
    assert f"wrong: 1 of 3 rows of shots.csv; cut/{folder}/batch.csv says what" in done.stdout
    rows = (shots / "outbox/cut" / folder / "batch.csv").read_text().splitlines()
    assert rows[3].startswith('4,b.png,,wrong,parameter_invalid,priority,"row 4: priority: should')
    # What was told once is not told again.
    again = call(shots, "run", "--json")
    assert (again.returncode, json.loads(again.stdout)["batches"]) == (0, [])


@pytest.mark.slow
def test_a_batch_is_paused_cancelled_and_retried_by_its_folder_s_name(shots: Path):
    call(shots, "run")
    folder = folder_of_batch(shots)
    assert (
        "nothing of that batch failed" in call(shots, "retry", "--failed", "--batch", folder).stderr
    )
    assert f"resume --batch {folder[-8:]}" in call(shots, "pause", "--batch", folder).stderr
    status = call(shots, "status").stdout
    assert f"cut/{folder}: 2 queued, 1 wrong row, paused" in status
    assert call(shots, "resume", "--batch", folder).returncode == 0
    assert facts(shots, "status")["batches"][0]["paused"] is None
    assert call(shots, "cancel", "--batch", f"cut/{folder}").stdout.count("cancelled") == 2
    assert "nothing of that batch is queued" in call(shots, "cancel", "--batch", folder).stderr
    early = call(shots, "retry", "--failed", "--batch", folder)
    assert (early.returncode, early.stdout) == (2, "")
    assert early.stderr.count("is still being put into the outbox") == 2

    call(shots, "run")
    (broken,) = (shots / "outbox/cut" / folder / "cancelled").glob("a-*.yaml")
    broken.write_text("priority: [")
    done = call(shots, "retry", "--failed", "--batch", folder)
    jobs = {job["name"]: job for job in facts(shots, "jobs", "--batch", folder)}
    assert {name: job["status"] for name, job in jobs.items()} == {
        "a.png": "cancelled",
        "b.png": "queued",
    }
    assert done.returncode == 2
    assert done.stdout == f"{jobs['b.png']['id'][:8]} queued\n"
    assert f"job {jobs['a.png']['id'][:8]}: " in done.stderr


@pytest.mark.slow
def test_what_names_no_batch(shots: Path):
    call(shots, "run")
    for command in (["cancel"], ["retry", "--failed"], ["pause"], ["resume"], ["jobs"]):
        done = call(shots, *command, "--batch", "shots-ffffffff")
        assert (done.returncode, done.stdout) == (2, "")
        assert "no batch's id begins with 'ffffffff'" in done.stderr


@pytest.mark.slow
def test_check_tells_what_would_be_skipped_as_taking_in_does(shots: Path):
    file = shots / "pipeline.yaml"
    file.write_text(CONFIG.replace("pipeline: cut}", "pipeline: cut, source_roots: [library]}"))
    (shots / "library").mkdir()
    picture(shots / "library/c.png")
    for name in ("a.png", "b.png", "shots.csv"):
        (shots / "inbox/cut" / name).unlink()
    table = shots / "inbox/cut/again.csv"

    def skipped(beside: str = "") -> list[bool]:
        table.write_text("image\nc.png\n")
        table.with_name("again.csv.yaml").write_text(beside or "tags: []\n")
        return [job["skipped"] for job in facts(shots, "check")["jobs"]]

    assert skipped() == [False]
    call(shots, "run")
    assert skipped() == [True]
    assert skipped("on_duplicate: run\n") == [False]
    folder = shots / "outbox/cut/result"
    folder.mkdir()
    ledger = sqlite3.connect(shots / "data/ledger.db")
    ledger.execute("UPDATE jobs SET status = 'completed', publish_name = 'cut/result'")
    ledger.commit()
    assert skipped() == [True]
    folder.rmdir()
    assert skipped() == [False]


@pytest.mark.slow
def test_a_source_root_that_is_not_there_is_told_and_not_waited_for(studio: Path):
    file = studio / "pipeline.yaml"
    file.write_text(CONFIG.replace("pipeline: cut}", "pipeline: cut, source_roots: [library]}"))
    (studio / "inbox/cut/shots.csv").write_text("image\na.png\n")
    checked = call(studio, "check")
    assert checked.returncode == 2
    assert "library, one of its source_roots, is not there; its batches wait" in checked.stdout
    done = call(studio, "run")
    assert done.returncode == 0
    assert "waiting: cut/shots.csv: not taken in yet: " in done.stdout
    assert "library, one of the inbox's source_roots, is not there" in done.stdout


MASKED = """\
version: 1
models: {sd: {provider: diffusers, path: sd}}
pipelines: {paint: [{img2img: {model: sd}}]}
inboxes: [{path: inbox/cut, pipeline: paint}]
"""


def test_a_mask_can_be_submitted_with_its_image(studio: Path):
    (studio / "pipeline.yaml").write_text(MASKED)
    image, mask = picture(studio / "box.png"), picture(studio / "round.png")
    wrong = call(studio, "submit", str(image), "--mask", "rund.png")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "--mask rund.png: there is no such file" in wrong.stderr
    done = call(studio, "submit", str(image), "--mask", str(mask))
    assert done.returncode == 0, done.stderr
    (job,) = facts(studio, "jobs")
    (stage,) = facts(studio, "show", job["id"])["stages"]
    assert stage["params"]["mask"] == "file"
    names = [path.name for path in (studio / "data/claims").rglob("*.png")]
    assert sorted(names) == ["box.mask.png", "box.png"]


def test_a_purpose_that_is_none_is_answered_with_those_that_are(tmp_path: Path):
    done = call(tmp_path, "init", "--for", "blender")
    assert done.returncode == 2
    assert "--for blender: should be photos, night or dcc; dcc is for Blender" in done.stderr
    assert not list(tmp_path.iterdir())
