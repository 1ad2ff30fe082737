"""Pictures of the live view: they fit, keep their columns, and say everything."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console, Group

from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.interfaces.cli.live.frame import draw
from dna_pipeline.interfaces.cli.live.results import ResultLog
from dna_pipeline.interfaces.cli.live.signs import signs_for
from dna_pipeline.operations.overview import make_overview
from tests.overviews import HASH, busy_status, ended, running_job, two_workers

CONFIG = """\
version: 1
models: {matte: {provider: border_key}}
pipelines: {cut: [{remove_background: {model: matte}}]}
inboxes:
  - {path: inbox/photos, pipeline: cut}
  - {path: inbox/night, pipeline: cut}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline.yaml").write_text(CONFIG)
    return load_config(tmp_path / "pipeline.yaml", {})


def picture(
    config: Config,
    status: dict[str, Any],
    width: int = 80,
    height: int = 40,
    encoding: str = "utf-8",
) -> list[str]:
    """The lines of a picture, without blanks at their ends."""
    overview, log = make_overview(config, status), ResultLog()
    log.add(overview.ended)
    lines = draw(overview, log, width, height, signs_for(encoding), "Ctrl-C stops")
    assert len(lines) == height
    return [line.plain.rstrip() for line in lines]


def text(config: Config, status: dict[str, Any], **size: Any) -> str:
    return "\n".join(picture(config, status, **size))


@pytest.mark.parametrize("width", [40, 64, 80, 100, 140, 200])
@pytest.mark.parametrize("height", [8, 24, 40, 60])
def test_a_picture_fits(config: Config, width: int, height: int):
    for line in picture(config, busy_status(), width, height):
        assert cell_len(line) <= width, line


@pytest.mark.parametrize("width", [80, 140])
def test_a_picture_says_everything(config: Config, width: int):
    said = " ".join(text(config, busy_status(), width=width).split())
    for part in (
        "watches 2 inboxes", "cpu float32 · 1 GiB of 24 GiB", "results in outbox",
        "38 jobs in the last hour", "rocket.png photos", "img2img, step 12 of 45",
        " 26 % about 65 s",
        "7 jobs waiting, 3 of them held; about 12 min left, until ", "inbox/photos", "2 of 7 28 %",
        "grid-0fdc0e77 1 wrong row", "2 of 5 40 %", "3 jobs: hours: inbox 'night' rests until",
        "photos/torn.png: does not decode yet", "赤い椅子の写真_最終版.png", "1 warning",
        "✗ chair_02.png", "sidecar_invalid",
        "Line 1: unknown key 'img2img.stepz'; did you mean 'steps'? The YAML beside",
        "sidecar_invalid, as above", "Ctrl-C stops",
    ):  # fmt: skip
        assert part in said, part
    assert said.count("did you mean") == 1


def test_each_end_is_told_by_the_clock(config: Config):
    rows = [line for line in picture(config, busy_status()) if "%" in line]
    assert re.search(r"28 %  \d\d:\d\d$|28 %  \d\d-\d\d \d\d:\d\d$", rows[1])
    assert rows[3].endswith("0 %"), "nobody knows when a held job ends"


def test_columns_stay_while_numbers_grow(config: Config):
    status = busy_status()
    early = picture(config, status)
    status["workers"][0]["jobs"][0] |= {"step": 45, "fraction": 1.0, "eta_s": 1.0}
    status["progress"][0] |= {"done": 7}
    late = picture(config, status)
    assert early[4].index(" 26 %") == late[4].index("100 %")
    (one,), (two,) = ([li for li in lines if " inbox/photos " in li] for lines in (early, late))
    assert one.index(" of 7") == two.index(" of 7")


def test_between_two_jobs_nothing_moves(config: Config):
    status = busy_status()
    at_work = picture(config, status)
    idle = picture(config, status | {"running": None, "workers": []})
    assert at_work[5:] == idle[5:]
    assert idle[3] == "running  nothing"


@pytest.mark.parametrize("width", [40, 64, 80, 140])
def test_several_workers_are_listed(config: Config, width: int):
    lines = picture(config, two_workers(), width)
    assert all(cell_len(line) <= width for line in lines)
    said = " ".join(" ".join(lines).split())
    assert "2 workers, 1 without a device" in said
    assert "workers cuda:0 working" in said
    assert "cuda:1 lost" in said
    if width >= 80:
        assert "12 GiB of 139 GiB · matte, sd15" in said
        assert "photos · cuda:0" in said
        assert "jobs with matte, sd15 come before 0d3a987e (anime)" in said
        assert "cuda:1 is not used: cuda:1 was asked for" in said


def test_many_workers_leave_room_for_the_rest(config: Config):
    status = two_workers()
    status["workers"] = [status["workers"][0] | {"worker": f"w{n}-1"} for n in range(30)]
    lines = picture(config, status, height=40)
    assert sum("working" in line for line in lines) == 10
    assert any("and 20 more" in line for line in lines)


def test_names_in_japanese_keep_their_width(config: Config):
    lines = picture(config, busy_status() | {"recent": [ended("赤い椅子.png"), ended("lamp.png")]})
    one, two = (line for line in lines if "photos/" in line and "-0d3a987e" in line)
    assert cell_len(one[: one.index("photos/")]) == cell_len(two[: two.index("photos/")])


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "iso8859-1", "cp437"])
@pytest.mark.parametrize("width", [80, 140])
def test_terminals_without_unicode_get_what_they_can_show(
    config: Config, encoding: str, width: int
):
    lines = picture(config, busy_status(), width, encoding=encoding)
    "\n".join(lines).encode(encoding)
    assert all(cell_len(line) <= width for line in lines)
    assert any("#" in line and "26 %" in line for line in lines)
    assert r"\u8d64" in "\n".join(lines)


def test_names_cannot_control_the_terminal(config: Config):
    status = busy_status()
    status["workers"][0]["jobs"][0]["name"] = status["recent"][0]["name"] = "a\x1b[2J\nb.png"
    status["waiting"][0]["reason"] = "[red]\x07"
    said = text(config, status)
    assert "\x1b" not in said
    assert r"a\x1b[2J\x0ab.png" in said
    assert r"[red]\x07" in said


def test_an_idle_daemon_says_what_to_do(config: Config):
    lines = picture(config, {"daemon": {"device": None}})
    assert lines[0].endswith("device not loaded yet")
    assert "queue    empty; put images into one of these folders" in lines
    assert "results  none yet" in lines


def test_a_status_without_a_daemon(config: Config):
    status = busy_status() | {"daemon": None, "running": None, "workers": []}
    lines = picture(config, status)
    assert lines[0].endswith("no daemon runs")
    assert "queue    7 jobs waiting; `dna-pipeline watch` does them" in lines


def test_a_time_that_is_unknown_is_not_guessed(config: Config):
    said = text(config, busy_status() | {"queue_eta_s": None})
    assert "7 jobs waiting, 3 of them held; time left: no history yet" in said


def test_many_inboxes_leave_room_for_results(config: Config):
    status = busy_status()
    status["progress"] += [
        {"inbox": f"more{n}", "done": 1, "total": 1, "eta_s": None} for n in range(50)
    ]
    lines = picture(config, status, height=30)
    assert any("and 43 more" in line for line in lines)
    assert any(line.startswith("results") for line in lines)
    assert not any(" more49 " in line for line in lines)


def test_many_jobs_that_wait_are_cut_short(config: Config):
    status = busy_status()
    status["holds"] = [{"code": f"c{n}", "detail": "it waits", "jobs": 1} for n in range(20)]
    lines = picture(config, status)
    assert sum("it waits" in line for line in lines) == 6
    assert any("`dna-pipeline status` says all" in line for line in lines)


def test_a_job_no_worker_has_begun_yet_is_shown_too(config: Config):
    job = running_job(job=HASH, stage=None, eta_s=None, fraction=0.0)
    said = text(config, busy_status() | {"running": job, "workers": []})
    assert "rocket.png" in said
    assert "starting" in said


def rendered(config: Config, **options: Any) -> str:
    """What a terminal gets."""
    out = io.StringIO()
    console = Console(file=out, width=80, height=40, force_terminal=True, **options)
    overview, log = make_overview(config, busy_status()), ResultLog()
    log.add(overview.ended)
    console.print(Group(*draw(overview, log, 80, 40, signs_for("utf-8"), "")), no_wrap=True)
    return out.getvalue()


def test_colours_are_there_and_go_where_they_are_not_wanted(
    config: Config, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TERM", "xterm-256color")
    colour = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-7]|9[0-7])[;m]")
    assert colour.search(rendered(config))
    monkeypatch.setenv("NO_COLOR", "1")
    plain = rendered(config)
    assert not colour.search(plain)
    assert "━" in plain
    assert "─" in plain, "a bar is seen without its colour"


def test_an_edit_that_is_refused_and_a_receiver_that_is_behind_are_said(config: Config):
    state = {"file": "p", "taken_over_at": None, "problem": "line 3: wrong\nline 9: too",
             "pending": None}  # fmt: skip
    receiver = {"name": "phone", "state": "active", "behind": 3, "attempts": 2,
                "problem": "it did not answer within 15 s"}  # fmt: skip
    lines = picture(config, busy_status() | {"config": state, "receivers": [receiver]}, width=140)
    text = "\n".join(lines)
    assert "note     pipeline.yaml is not taken over: line 3: wrong; line 9: too; the one" in text
    assert "receiver phone lacks 3 messages after 2 attempts: it did not answer within 15 s" in text


@pytest.mark.parametrize("width", [60, 80])
def test_the_reason_for_a_refused_edit_is_seen_on_narrow_terminals(config: Config, width: int):
    file = f"/volumes/{'a_long_folder/' * 6}pipeline.yaml"
    reason = "line 42: unknown key 'stepz' in img2img; did you mean 'steps'?"
    state = {"file": file, "taken_over_at": None, "problem": f"{file}: {reason}", "pending": None}
    lines = picture(config, busy_status() | {"config": state}, width=width)
    start = next(n for n, line in enumerate(lines) if line.startswith("note"))
    note = " ".join(line[9:].strip() for line in lines[start : start + 4])
    assert note.startswith(f"pipeline.yaml is not taken over: {reason}; the one before goes on")


def test_a_model_that_is_loaded_before_the_first_job_is_named(config: Config):
    loading = {"model": "sd15", "number": 1, "of": 2}
    status = busy_status() | {"running": None, "workers": [], "loading": loading}
    assert "running  nothing yet: loading sd15 (1 of 2)" in picture(config, status)


def test_the_address_of_the_server_has_a_line(config: Config):
    status = busy_status() | {"server": {"url": "http://127.0.0.1:8000", "problem": None}}
    lines = picture(config, status)
    assert lines[2] == "serves on http://127.0.0.1:8000"
    assert "serves on" not in text(config, busy_status())
    long = busy_status() | {"server": {"url": f"http://{'x' * 200}.example:8000", "problem": None}}
    assert all(cell_len(line) <= 60 for line in picture(config, long, width=60))
