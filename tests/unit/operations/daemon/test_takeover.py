"""The decision when an edited pipeline.yaml is taken over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.errors import Locked
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.operations.daemon.takeover import HOLD_BACK_S, Takeover, changed_keys

TEXT = """\
version: 1
paths: {data: data, outbox: outbox}
runtime: {max_attempts: 3}
retention: {events_days: 30}
models: {matte: {provider: border_key}}
pipelines: {cut: [{remove_background: {}}]}
inboxes: [{path: inbox, pipeline: cut}]
notify: [{command: [notify-send, "{line}"]}]
metrics: m.prom
"""

EDITS = {
    "paths.data": ("data: data", "data: elsewhere"),
    "paths.outbox": ("outbox: outbox", "outbox: elsewhere"),
    "runtime": ("max_attempts: 3", "max_attempts: 4"),
    "retention": ("events_days: 30", "events_days: 31"),
    "c2pa": ("version: 1\n", "version: 1\nc2pa: {certificate: a.pem, key: b.pem}\n"),
    "models": ("models: {", "models: {two: {provider: triposr, path: x}, "),
    "pipelines": ("remove_background: {}", "remove_background: {force: true}"),
    "inboxes": ("pipeline: cut}]", "pipeline: cut, priority: 2}]"),
    "notify": ("{line}", "{type}"),
    "metrics": ("m.prom", "n.prom"),
    "serve": ("version: 1\n", "version: 1\nserve: {max_upload_mib: 7}\n"),
}
"""An edit for each key, by what it changes."""


class Fake:
    """The watch of the file and the parts of the daemon in one, as a test sets them."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.problem = ""
        self.newest: Config | None = None
        self.computing = self.publishing = self.intake_blocked = False
        self.locked = ""
        self.has_intake = True
        self.calls: list[str] = []
        self.events: list[tuple[str, dict[str, Any]]] = []

    def take(self) -> Config | None:
        newest, self.newest = self.newest, None
        return newest

    def is_computing(self) -> bool:
        return self.computing

    def has_published(self) -> bool:
        return not self.publishing

    def end_intake(self) -> bool:
        self.calls.append("end_intake")
        self.has_intake = False
        return not self.intake_blocked

    def resume_intake(self) -> None:
        self.has_intake = True

    def report_by(self, config: Config) -> None:
        self.calls.append("report_by")
        self.config = config

    def replace(self, config: Config) -> bool:
        if self.locked:
            raise Locked(self.locked)
        self.calls.append("replace")
        self.config = config
        return True

    def record(self, kind: str, data: dict[str, Any]) -> None:
        self.events.append((kind, data))


def load(folder: Path, text: str) -> Config:
    (folder / "pipeline.yaml").write_text(text)
    return load_config(folder / "pipeline.yaml", {})


def edited(folder: Path, *keys: str) -> Config:
    text = TEXT
    for key in keys:
        assert EDITS[key][0] in text
        text = text.replace(*EDITS[key])
    return load(folder, text)


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(load(tmp_path, TEXT))


@pytest.fixture
def takeover(fake: Fake) -> Takeover:
    return Takeover(fake, fake, fake.record)


@pytest.mark.parametrize("key", EDITS)
def test_each_edit_is_named(tmp_path: Path, fake: Fake, key: str):
    assert changed_keys(fake.config, edited(tmp_path, key)) == [key]


def test_a_comment_changes_nothing(tmp_path: Path, fake: Fake, takeover: Takeover):
    fake.newest = load(tmp_path, f"# a comment\n\n{TEXT}")
    takeover.step(0)
    assert (fake.calls, fake.events) == ([], [])
    assert takeover.state.taken_over_at is None


@pytest.mark.parametrize("key", ["notify", "metrics", "serve"])
def test_reports_change_at_once(tmp_path: Path, fake: Fake, takeover: Takeover, key: str):
    fake.computing = True
    fake.newest = edited(tmp_path, key)
    takeover.step(0)
    assert fake.calls == ["report_by"]
    assert fake.events == [("config_changed", {"changed": [key]})]
    assert not takeover.holds_back


@pytest.mark.parametrize("key", ["runtime", "retention", "c2pa", "models", "pipelines", "inboxes"])
def test_the_rest_changes_between_two_jobs(
    tmp_path: Path, fake: Fake, takeover: Takeover, key: str
):
    fake.computing = True
    fake.newest = edited(tmp_path, key, "notify")
    takeover.step(0)
    takeover.step(500)
    assert (fake.calls, takeover.holds_back) == ([], True)
    assert "taken over when the running job, or the loading of models, has ended" in (
        takeover.state.pending or ""
    )
    fake.computing, fake.publishing = False, True
    takeover.step(501)
    assert (fake.calls, takeover.holds_back) == ([], True)
    fake.publishing = False
    takeover.step(502)
    assert fake.calls == ["end_intake", "replace"]
    assert not takeover.holds_back
    assert takeover.state.pending is None
    assert fake.events == [("config_changed", {"changed": [key, "notify"], "worker_kept": True})]


@pytest.mark.parametrize("key", ["paths.data", "paths.outbox"])
def test_paths_change_by_a_restart_only(tmp_path: Path, fake: Fake, takeover: Takeover, key: str):
    fake.newest = edited(tmp_path, key, "inboxes")
    takeover.step(0)
    takeover.step(1)
    assert fake.calls == []
    assert takeover.state.pending == f"{key} changed: restart the daemon to take over the edit"
    assert fake.events[0][1]["needs_restart"] is True


def test_an_edit_that_is_taken_back_is_pending_no_more(
    tmp_path: Path, fake: Fake, takeover: Takeover
):
    fake.computing = True
    fake.newest = edited(tmp_path, "runtime")
    takeover.step(0)
    fake.newest = load(tmp_path, TEXT)
    takeover.step(1)
    assert (takeover.state.pending, takeover.holds_back) == (None, False)


def test_a_wrong_file_leaves_the_old_one_and_says_why(fake: Fake, takeover: Takeover):
    fake.problem = "line 3: unknown key 'runtim'"
    takeover.step(0)
    takeover.step(1)
    assert takeover.state.problem == fake.problem
    assert fake.events == [("config_refused", {"why": fake.problem})]
    fake.problem = ""
    takeover.step(2)
    assert takeover.state.problem is None


def test_a_wrong_file_takes_the_place_of_a_right_one_that_waits(
    tmp_path: Path, fake: Fake, takeover: Takeover
):
    fake.computing = True
    fake.newest = edited(tmp_path, "runtime")
    takeover.step(0)
    fake.computing, fake.problem = False, "line 3: wrong"
    takeover.step(1)
    assert fake.calls == []


def test_a_folder_that_does_not_answer_holds_no_job_back(
    tmp_path: Path, fake: Fake, takeover: Takeover
):
    fake.intake_blocked = True
    fake.newest = edited(tmp_path, "runtime")
    takeover.step(0)
    assert takeover.holds_back
    takeover.step(HOLD_BACK_S)
    assert not takeover.holds_back
    fake.intake_blocked = False
    takeover.step(HOLD_BACK_S + 1)
    assert fake.calls[-1] == "replace"


def test_an_inbox_that_another_daemon_holds(tmp_path: Path, fake: Fake, takeover: Takeover):
    fake.locked = "inbox a is watched by another daemon already"
    fake.newest = edited(tmp_path, "inboxes")
    takeover.step(0)
    assert takeover.state.problem == fake.locked
    assert fake.events[0][0] == "config_refused"
    assert fake.has_intake


@pytest.mark.parametrize("hurdle", ["computing", "publishing"])
def test_intake_goes_on_while_something_else_is_waited_for(
    tmp_path: Path, fake: Fake, takeover: Takeover, hurdle: str
):
    fake.intake_blocked = True
    fake.newest = edited(tmp_path, "runtime")
    takeover.step(0)
    assert not fake.has_intake
    setattr(fake, hurdle, True)
    takeover.step(1)
    assert fake.has_intake


def test_receivers_are_taken_over_again_if_the_ledger_fails(
    tmp_path: Path, fake: Fake, takeover: Takeover, monkeypatch: pytest.MonkeyPatch
):
    def fail(config: Config) -> None:
        raise OSError("the disk is full")

    fake.newest = edited(tmp_path, "notify")
    with monkeypatch.context() as patch:
        patch.setattr(fake, "report_by", fail)
        with pytest.raises(OSError, match="full"):
            takeover.step(0)
    takeover.step(1)
    assert fake.calls == ["report_by"]
    takeover.step(2)
    assert fake.calls == ["report_by"]


def test_intake_goes_on_where_a_wrong_file_takes_the_place_of_one_that_waits_for_intake(
    tmp_path: Path, fake: Fake, takeover: Takeover
):
    fake.intake_blocked = True
    fake.newest = edited(tmp_path, "runtime")
    takeover.step(0)
    assert not fake.has_intake
    fake.problem = "line 3: unknown key"
    takeover.step(1)
    assert fake.has_intake
    assert not takeover.holds_back
    assert not takeover.holds_back
