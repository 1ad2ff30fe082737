"""Every command prints something readable, whatever the encoding of its output lacks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.errors import EmptyMesh
from dna_pipeline.ledger import queue
from tests import fork_server
from tests.conftest import SCRIPTS
from tests.integration.conftest import Site
from tests.integration.test_cli import picture

CP1252 = {"PYTHONIOENCODING": "cp1252"}
C_LOCALE = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONIOENCODING": ""}
ENCODINGS = {
    "cp1252": (CP1252, "cp1252"),
    "strict": ({"PYTHONIOENCODING": "cp1252:strict"}, "cp1252"),
    "ascii": (C_LOCALE | {"PYTHONIOENCODING": "ascii"}, "ascii"),
    "C": (C_LOCALE, "ascii"),
    "utf-8": ({"PYTHONIOENCODING": "utf-8"}, "utf-8"),
}
NAMES = ["猫 🐈.png", os.fsdecode(b"caf\xe9.png"), "Ångström – “x”.png", "plain.png", "失敗.png"]


MANY = """\
import json, os, sys
from dna_pipeline.interfaces.cli.main import main
for number, command in enumerate(json.loads(sys.argv[1])):
    typed = (os.fsdecode(word.encode("utf-8", "surrogateescape")) for word in command)
    sys.argv = ["dna-pipeline", *typed]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code
    for stream in (sys.stdout, sys.stderr):
        print(f"\\x1e{code}\\x1f", end="", file=stream, flush=True)
"""
"""Runs several commands in one process, since to start one takes most of the time."""


class Shell:
    def __init__(self, root: Path, kind: str) -> None:
        self.root = root
        settings, self.encoding = ENCODINGS[kind]
        self.environment = {**os.environ, **settings}

    def run(self, *command: str) -> tuple[str, str]:
        """Standard output and error of a program, in the encoding that they should have.

        It is forked if only the encoding of its streams is another, and not the locale.
        """
        if fork_server.can_fork(self.environment) and command[0] == "-c":
            where: dict[str, Any] = {"cwd": self.root, "env": self.environment}
            done = fork_server.run(fork_server.light(), *command, **where)
        else:
            done = subprocess.run(
                [sys.executable, *command],
                cwd=self.root, env=self.environment, capture_output=True, timeout=200,
            )  # fmt: skip
        out, error = done.stdout.decode(self.encoding), done.stderr.decode(self.encoding)
        assert "Traceback" not in error
        assert done.returncode == 0, error
        return out, error

    def dna(self, *commands: Sequence[str], codes: Sequence[int] = (0,)) -> list[tuple[str, str]]:
        """The same of each of our commands."""
        parts = [
            re.findall("(.*?)\x1e(.*?)\x1f", said, re.DOTALL)
            for said in self.run("-c", MANY, json.dumps(commands))
        ]
        for command, (said, code) in zip(commands, parts[1], strict=True):
            assert int(code) in codes, (command, said)
        return [(out, error) for (out, _), (error, _) in zip(*parts, strict=True)]

    def json(self, *commands: Sequence[str], codes: Sequence[int] = (0,)) -> list[Any]:
        answers = self.dna(*([*command, "--json"] for command in commands), codes=codes)
        return [json.loads(out) for out, _ in answers]


@pytest.fixture
def full(site: Site) -> Site:
    """One that has results, failures, what waits in queue and inbox, and a changed result."""
    for name in NAMES:
        picture(site.inbox / name)
        (site.inbox / f"{name}.yaml").write_bytes("meta: {猫: [é, “x”]}\n".encode())
    site.settle()
    jobs = {job.name: job for job in site.jobs()}
    for _ in range(3):
        site.finish(site.claim_next())
    site.publish()
    failing = jobs["失敗.png"]
    error = EmptyMesh("何も無い 🐈").failure()
    site.ledger.transact(lambda s: queue.fail(s, failing.id, error, None))
    site.publish()
    picture(site.inbox / "待つ 🐈.png")
    (site.inbox / os.fsdecode(b"\xff.jxl")).write_bytes(b"x")
    (site.inbox / "悪い.yaml").write_bytes("image: 無い.png\n".encode())
    return site


LOOKING = [["jobs"], ["jobs", "--status", "completed"], ["status"], ["verify"], ["check"]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENCODINGS)
def test_every_command_that_looks(full: Site, kind: str) -> None:
    shows = [["show", job.id] for job in full.jobs()]
    told = Shell(full.root, kind).dna(*LOOKING, ["events"], *shows, codes=(0, 2))
    jobs, _ = told[0]
    assert ("猫" if kind == "utf-8" else "\\u732b") in jobs
    assert "caf\\xe9.png" in jobs
    assert len(jobs.splitlines()) == 1 + len(NAMES)
    for (_, job_id), (out, _) in zip(shows, told[-len(shows) :], strict=True):
        assert job_id in out


def column_of(line: str, cell: str) -> int:
    """In which column of a terminal a cell begins; Chinese letters and animals take two."""
    before = line[: line.index(f"  {cell}")]
    return len(before) + len(re.findall("[\u4e00-\u9fff\u3040-\u30ff\U0001f408]", before))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cp1252", "C", "utf-8"])
def test_columns_are_in_line_as_they_are_printed(full: Site, kind: str) -> None:
    (jobs, _), (check, _) = Shell(full.root, kind).dna(["jobs"], ["check"], codes=(0, 2))
    head, *rows = jobs.splitlines()
    assert len(rows) == len(NAMES)
    assert {column_of(row, "cut") for row in rows} == {column_of(head, "pipeline")}
    wrong_head, wrong, head, row = [line for line in check.splitlines() if line.startswith("in")]
    assert column_of(wrong, "image_missing") == column_of(wrong_head, "what is wrong")
    assert column_of(row, "cut") == column_of(head, "would run")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cp1252", "C"])
def test_json_is_valid_and_loses_nothing(full: Site, kind: str) -> None:
    shows = [["show", job.id] for job in full.jobs()]
    plain = Shell(full.root, "utf-8").json(*LOOKING, *shows, codes=(0, 2))
    told = Shell(full.root, kind).json(*LOOKING, *shows, codes=(0, 2))
    assert {job["name"] for job in told[0]} == {job.name for job in full.jobs()}
    assert [_with_bytes(facts) for facts in told] == [_with_bytes(facts) for facts in plain]
    ((lines, _),) = Shell(full.root, kind).dna(["events", "--json"])
    assert all(json.loads(line)["job_id"] for line in lines.splitlines())


def _with_bytes(facts: Any) -> bytes:
    """Paths come in the locale's encoding, with surrogates for what it lacks: the same bytes."""
    text = json.dumps(facts, ensure_ascii=False, sort_keys=True)
    return text.encode("utf-8", "surrogateescape")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cp1252", "C"])
def test_every_command_that_changes(full: Site, kind: str) -> None:
    shell = Shell(full.root, kind)
    queued = [job.id for job in full.jobs() if job.status == "queued"]
    shell.dna(
        ["pause"], ["resume"], ["cancel", *queued], ["repair"],
        ["submit", f"{full.inbox}/待つ 🐈.png"], ["init", "新しい 🐈"],
    )  # fmt: skip
    wrong = [
        ["cancel", *queued], ["submit", "無い 🐈.png"], ["--config", "無い 🐈.yaml", "check"],
        ["show", "猫"], ["show", "\udcff"], ["retry", "--failed", "--batch", "猫"],
        ["jobs", "--status", "猫"], ["jobs", "--status", "\udcff"],
    ]  # fmt: skip
    for out, error in shell.dna(*wrong, codes=(2,)):
        assert out == "" and error
    assert shell.json(["jobs", "--inbox", "猫"], ["jobs", "--inbox", "\udcff"]) == [[], []]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cp1252", "ascii", "C"])
def test_help_and_wrong_calls(site: Site, kind: str) -> None:
    shell = Shell(site.root, kind)
    ((shown, _),) = shell.dna(["--help"])
    commands = [line.split()[0] for line in shown.partition("Commands:")[2].splitlines() if line]
    assert len(commands) > 12
    for command, (out, _) in zip(
        commands, shell.dna(*([command, "--help"] for command in commands)), strict=True
    ):
        assert command in out
    wrong = [["jobs", "--猫"], ["猫"], ["show"], ["jobs", "--limit", "猫"], ["cancel", "猫"]]
    for out, error in shell.dna(*wrong, codes=(2,)):
        assert out == "" and error


@pytest.mark.slow
def test_no_daemon_where_results_could_not_get_their_names(site: Site) -> None:
    for command in (["watch"], ["run"]):
        ((_, error),) = Shell(site.root, "C").dna(command, codes=(2,))
        assert "PYTHONUTF8=1" in error
    Shell(site.root, "cp1252").dna(["run"])


@pytest.mark.parametrize("kind", ["cp1252", "C"])
@pytest.mark.parametrize("script", ["demo", "bench"])
def test_scripts(tmp_path: Path, kind: str, script: str) -> None:
    command = [str(SCRIPTS / f"{script}.py"), "--help"]
    out, _ = Shell(tmp_path, kind).run(*command)
    assert "usage" in out


@pytest.mark.parametrize("kind", ["cp1252", "C"])
def test_a_script_that_prints_a_path(tmp_path: Path, kind: str) -> None:
    command = [str(SCRIPTS / "package_blender.py"), "--out", str(tmp_path / "猫 🐈")]
    out, _ = Shell(tmp_path, kind).run(*command)
    assert ".zip" in out


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cp1252", "C"])
def test_the_log_on_standard_error(tmp_path: Path, kind: str) -> None:
    code = (
        "import sys, structlog; from pathlib import Path\n"
        "from dna_pipeline.base.logs import configure\n"
        "configure(Path('logs'))\n"
        "log = structlog.get_logger()\n"
        "log.info('job.published', folder='猫 🐈', name='caf\\udce9')\n"
        "try: raise ValueError('何も \\udce9')\n"
        "except ValueError: log.exception('job.failed')\n"
    )
    (tmp_path / "log.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "log.py"], cwd=tmp_path, capture_output=True, timeout=60,
        env={**os.environ, **ENCODINGS[kind][0]},
    )  # fmt: skip
    error = done.stderr.decode(ENCODINGS[kind][1])
    assert done.returncode == 0, error
    assert "job.published" in error
    assert "--- Logging error ---" not in error


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cp1252", "C"])
def test_what_a_library_prints_in_the_worker(tmp_path: Path, kind: str) -> None:
    code = "from dna_pipeline.base.logs import configure_child\nconfigure_child()\nprint('猫 🐈')\n"
    (tmp_path / "child.py").write_text(code, encoding="utf-8")
    out, _ = Shell(tmp_path, kind).run("child.py")
    assert out.strip() == "\\u732b \\U0001f408"
