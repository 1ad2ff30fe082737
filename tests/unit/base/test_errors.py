"""The error tree keeps what the contract promises."""

from __future__ import annotations

import json
import pickle
import re

import pytest

from dna_pipeline.base import errors
from dna_pipeline.base.errors import DnaError, Failure, Hold, JobError, OutOfMemory, SidecarInvalid

CONTRACT = """
sidecar_invalid parameter_invalid sidecar_ambiguous sidecar_missing image_missing image_unreadable
image_too_small image_too_large path_escapes_inbox unknown_pipeline unknown_model weights_mismatch
no_effective_steps non_finite_output black_image content_filtered empty_foreground empty_mesh
out_of_memory worker_crashed stage_timeout source_missing cancelled
""".split()  # noqa: SIM905 - as it stands there

HOLDS = """
weights_missing disk_full outbox_unavailable inbox_unavailable device_unavailable hours paused
retry_wait signing_unavailable other_rows
""".split()  # noqa: SIM905


def below(root: type[DnaError]) -> list[type[DnaError]]:
    """All errors of this module below `root`; other modules may add theirs."""
    return [
        e
        for e in vars(errors).values()
        if isinstance(e, type) and issubclass(e, root) and e is not root
    ]


def test_every_code_of_the_contract_is_there_once():
    codes = [error.code for error in below(JobError)]
    assert len(codes) == len(set(codes))
    added = {"background_not_plain", "compiler_missing", "stage_failed", "unwrap_failed"}
    added |= {"video_failed", "mask_missing", "mask_mismatch", "mask_unreadable"}
    assert set(codes) == {*CONTRACT, *added}
    assert sorted(error.code for error in below(Hold)) == sorted(HOLDS)


@pytest.mark.parametrize("error", below(JobError) + below(Hold), ids=lambda e: e.code)
def test_the_code_is_the_name(error):
    assert error.code == re.sub(r"(?<=[a-z])(?=[A-Z])", "_", error.__name__).lower()


@pytest.mark.parametrize("error", below(JobError), ids=lambda e: e.code)
def test_a_sentence_says_what_to_do(error):
    assert re.fullmatch(r"\S.{20,170}[^.]\.", error.sentence)
    assert ";" in error.sentence or " so " in error.sentence


@pytest.mark.parametrize("error", below(JobError), ids=lambda e: e.code)
def test_a_failure_goes_through_json(error):
    failure = error("the facts", hint="a way out").failure()
    assert failure == Failure(error.code, error.sentence, "the facts", "a way out", error.retryable)
    assert Failure.from_dict(json.loads(json.dumps(failure.to_dict()))) == failure


def test_a_failure_of_a_newer_version_is_read():
    data = OutOfMemory("12 GiB").failure().to_dict() | {"new": 1}
    del data["hint"]
    assert Failure.from_dict(data) == OutOfMemory("12 GiB").failure()
    with pytest.raises(TypeError):
        Failure.from_dict({"code": "cancelled"})


def test_an_error_without_facts_says_its_sentence():
    assert str(SidecarInvalid()) == SidecarInvalid.sentence
    assert str(SidecarInvalid("line 3: no")) == "line 3: no"
    assert SidecarInvalid().failure().detail == ""


def test_errors_pass_between_processes():
    for error in (SidecarInvalid("line 3: no", hint="mend it"), SidecarInvalid(hint="mend it")):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is SidecarInvalid
        assert copy.failure() == error.failure()
        assert str(copy) == str(error)


def test_the_tree_drawn_at_the_top_is_the_tree():
    drawn = set(re.findall(r"\b[A-Z]\w+", str(errors.__doc__).partition("\n\n")[2]))
    real = {error.__name__ for error in below(DnaError)} | {"DnaError"}
    assert real <= drawn
    assert {word for word in drawn if hasattr(errors, word)} == real


def test_a_detail_has_an_end():
    detail = errors.JobError("x" * 1_000_000).failure().detail
    assert len(detail) == errors.MAX_DETAIL_CHARS


def test_the_sentence_of_an_unknown_model_fits_a_name_that_two_files_have():
    assert "does not mean one model" in errors.UnknownModel.sentence
    assert "models list" in errors.UnknownModel.sentence
