"""What a worker may tell the daemon, and what no daemon believes."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dna_pipeline.base import ipc
from dna_pipeline.base.ipc import PipeError
from dna_pipeline.execution.protocol import (
    FileRecord,
    JobDone,
    JobFailed,
    LoadedModel,
    MemoryUse,
    ModelsLoaded,
    Phase,
    Progress,
    StageDone,
    TaskDone,
    TaskFailed,
    WorkerEnded,
    WorkerReady,
    event_from_message,
    event_to_message,
)

MODEL = {"name": "sd", "state": "loaded", "device": "cpu", "since": "2026-12-01T22:00:00Z"}
FILE = FileRecord("a\u00a0cat.png", "image", "image/png", 5, "0" * 64, {"width_px": 16})
FAILURE = {"code": "empty_mesh", "message": "m", "detail": "d", "hint": "", "retryable": False}
STAGE_DONE = StageDone(
    "j", "img2img", "img2img", None, None, {"seed": 1}, "cpu", "float32", 1, 2.5, ["w"],
    {"torch": "2"}, [FILE], "1" * 64,
)  # fmt: skip
MODELS_LOADED = ModelsLoaded((LoadedModel("sd", "loading", "cpu", "2026-12-01T22:00:00Z"),))
EVENTS = [
    WorkerReady("cpu", "float32", {"gpu": None}),
    Phase("j", "img2img", "running", 30.0),
    Progress("j", "img2img", 1, 20, 0.05),
    STAGE_DONE,
    JobDone("j"),
    JobFailed("j", FAILURE, "img2img", poisoned=True),
    JobFailed("j", FAILURE, hold=True),
    TaskDone("t", 1.5, {"name": "cpu"}),
    TaskFailed("t", FAILURE),
    Phase("j", "img2img", "running", 30.0, memory=MemoryUse(5, 9)),
    Phase("j", "cut", "running", 30.0, on_device=False),
    Progress("j", "img2img", 1, 20, 0.05, MemoryUse(0, 0)),
    MODELS_LOADED,
    ModelsLoaded((LoadedModel("sd", "loaded", "cuda:1", "2026-12-01T22:00:00Z", 5),), "local-1"),
    ModelsLoaded(()),
]


def line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def over_the_wire(message: dict[str, Any]) -> Any:
    (heard,) = ipc.messages(io.BytesIO(line(message)))
    return event_from_message(heard)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_what_is_told_is_heard(event: Any):
    assert over_the_wire(event_to_message(event)) == event


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.kind)
def test_a_field_that_is_missing_or_of_another_kind(event: Any):
    message = event_to_message(event)
    optional = {"stage", "hold", "poisoned", "worker", "facts", "memory", "reused_from"}
    optional |= {"on_device"}
    if isinstance(event, Phase | Progress | StageDone):
        optional -= {"stage"}
    for name in message.keys() - optional:
        with pytest.raises(PipeError):
            event_from_message({key: value for key, value in message.items() if key != name})
    for name in message:
        with pytest.raises(PipeError):
            event_from_message(message | {name: object})


@pytest.mark.parametrize(
    ("event", "changes"),
    [
        (EVENTS[1], {"limit_s": float("inf")}),
        (EVENTS[1], {"limit_s": float("nan")}),
        (EVENTS[2], {"fraction": float("nan")}),
        (STAGE_DONE, {"seconds": float("inf")}),
        (STAGE_DONE, {"batch_size": 10**30}),
        (EVENTS[5], {"failure": {}}),
        (EVENTS[5], {"failure": FAILURE | {"detail": 5}}),
        (EVENTS[4], {"event": "worker_ended", "reason": "closed", "detail": ""}),
        (EVENTS[4], {"event": ["job_done"]}),
        (EVENTS[7], {"seconds": float("nan")}),
        (EVENTS[8], {"failure": {}}),
        (MODELS_LOADED, {"models": ["sd"]}),
        (MODELS_LOADED, {"models": [MODEL | {"state": "gone"}]}),
        (MODELS_LOADED, {"models": [MODEL | {"bytes": -1}]}),
    ],
)
def test_values_that_the_daemon_could_not_bear(event: Any, changes: dict[str, Any]):
    with pytest.raises(PipeError):
        event_from_message(event_to_message(event) | changes)


@pytest.mark.parametrize(
    "changes",
    [
        *({"path": path} for path in ("", ".", "..", "../a", "/etc/a", "a/b", "a\\b", "C:a")),
        {"path": "a\0"},
        {"path": "caf\udce9.png"},
        {"bytes": -1},
        {"bytes": 1 << 63},
        {"sha256": "0" * 63},
        {"sha256": "0" * 63 + "G"},
        {"facts": []},
    ],
)  # fmt: skip
def test_files_that_no_stage_makes(changes: dict[str, Any]):
    message = event_to_message(STAGE_DONE)
    message["artifacts"][0] |= changes
    with pytest.raises(PipeError):
        event_from_message(message)


def test_two_files_of_one_name():
    message = event_to_message(STAGE_DONE)
    message["artifacts"] *= 2
    with pytest.raises(PipeError, match="one name"):
        event_from_message(message)


def test_text_that_no_column_takes_is_made_visible():
    message = event_to_message(JobFailed("j", FAILURE | {"detail": "caf\udce9 is gone"}))
    heard = over_the_wire(message)
    assert heard.failure["detail"] == "caf\\udce9 is gone"
    assert over_the_wire(event_to_message(STAGE_DONE) | {"dtype": "\ud800"}).dtype == "\\ud800"


def test_the_end_of_a_worker_is_not_its_to_tell():
    with pytest.raises(PipeError, match="no event"):
        event_from_message(event_to_message(WorkerEnded("local-1", ("j",), "closed", "")))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@pytest.mark.slow
@given(st.sampled_from(EVENTS), st.data(), json_values)
@settings(max_examples=300)
def test_any_value_in_any_field(event: Any, data: st.DataObject, value: Any):
    message = event_to_message(event)
    message[data.draw(st.sampled_from(sorted(message)))] = value
    try:
        heard = over_the_wire(message)
    except PipeError as error:
        assert len(str(error)) < 400
        return
    json.dumps(event_to_message(heard), allow_nan=False)


@given(st.binary(max_size=60))
@example(b"\n")
@example(b"[]\n")
@example(b"[" * 100_000 + b"\n")
@example(b"9" * 5000 + b"\n")
@example(b'{"a": NaN}\n')
@example(b'{"a": 1e999}\n')
@example(b"\xff\xfe{\n")
@settings(max_examples=200)
def test_garbage_is_told_shortly(data: bytes):
    try:
        for message in ipc.messages(io.BytesIO(data)):
            json.dumps(message, allow_nan=False)
    except PipeError as error:
        assert len(str(error)) < 400


def test_a_line_without_an_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ipc, "MESSAGE_BYTES", 1000)
    endless = io.BytesIO(b"x" * 1_000_000)
    with pytest.raises(PipeError, match="a line of more than"):
        next(ipc.messages(endless))
    assert endless.tell() == 1001


@pytest.mark.parametrize(
    "memory", [{"used": -1, "total": 9}, {"used": 1}, {"used": "x", "total": 9}]
)
def test_a_size_of_memory_that_cannot_be_is_refused(memory: Any):
    message = event_to_message(Phase("j", "img2img", "running", 30.0)) | {"memory": memory}
    with pytest.raises(PipeError):
        event_from_message(message)
