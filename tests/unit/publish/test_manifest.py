import json
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from dna_pipeline.base.errors import JobError, MaskMismatch, MaskMissing
from dna_pipeline.publish import manifest
from dna_pipeline.publish.manifest import (
    ArtifactPart,
    ErrorReport,
    InputFilePart,
    InputPart,
    JobPart,
    Manifest,
    ModelPart,
    StagePart,
    error_text,
    to_bytes,
)

SCHEMA = Path(__file__).parents[3] / "schemas" / "manifest.schema.json"

JOB = JobPart(
    id="a" * 32, batch=None, inbox="in", pipeline="cut", priority=0, attempt=1, tags=["hero"],
    meta={"asset": "chair_01", "size": 1.5}, created_at="2026-01-01T00:00:00.000000Z",
    started_at=None, finished_at="2026-01-01T00:00:01.000000Z",
)  # fmt: skip
INPUT = InputPart(name="größe.png", sha256="0" * 64, bytes=3, width=64, height=48)
WHOLE = Manifest(
    job=JOB,
    input=INPUT,
    sidecar=None,
    stages=[
        StagePart(
            id="mesh", type="triposr", provider="triposr",
            model=ModelPart(name="triposr", path="models/triposr", sha256="1" * 64, license="MIT"),
            params={"resolution": 256, "formats": ["glb"]}, device="cpu", dtype="float32",
            batch_size=1, seconds=1.25, warnings=[],
        )
    ],
    artifacts=[
        ArtifactPart(
            path="cat.glb", role="mesh", media_type="model/gltf-binary", bytes=9, sha256="2" * 64,
            vertices=8, faces=12, watertight=True, bounds=[[0, 0, 0], [1, 1, 1]],
        )  # pyright: ignore
    ],
    environment={"python": "3.11"},
)  # fmt: skip


def report(**values: object) -> ErrorReport:
    facts = {
        "code": "empty_mesh", "message": "No surface.", "detail": "threshold 25", "hint": "",
        "retryable": False, "job": JOB, "input": INPUT, "stage": "mesh", "attempts": 1,
    }  # fmt: skip
    return ErrorReport(**(facts | values))  # pyright: ignore


def test_the_shipped_schema_is_the_models() -> None:
    assert SCHEMA.read_bytes() == manifest.json_schema()


def test_a_manifest_fits_its_schema_and_comes_back() -> None:
    schema = json.loads(SCHEMA.read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    data = to_bytes(WHOLE)
    jsonschema.validate(json.loads(data), schema)
    assert Manifest.model_validate_json(data) == WHOLE
    assert data.endswith(b"}\n")
    assert "größe.png".encode() in data


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("job", "extra"), 1),
        (("artifacts", 0, "sha256"), "xyz"),
        (("schema_version",), 2),
        (("stages", 0, "seconds"), "long"),
    ],
)
def test_what_is_wrong_fits_neither_schema_nor_model(path, value) -> None:
    document = json.loads(to_bytes(WHOLE))
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, json.loads(SCHEMA.read_bytes()))
    with pytest.raises(ValidationError):
        Manifest.model_validate(document)


def test_a_failure_in_words() -> None:
    text = error_text(report(hint="lower the threshold"))
    for part in (
        "größe.png could not be processed.", "No surface.", "What exactly: threshold 25",
        "What helps:   lower the threshold", "At stage:     mesh", "Code:         empty_mesh",
        "dna-pipeline retry aaaaaaaa",
    ):  # fmt: skip
        assert part in text
    bare = error_text(report(stage=None))
    assert "At stage" not in bare
    assert "What helps" not in bare


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("empty_mesh", "Mend the YAML there, or\nwhatever else is wrong, then run:"),
        ("image_unreadable", "Replace the image in `source` by one of the same name, then run:"),
        ("cancelled", "\n\nNothing is wrong; to run it after all:"),
    ],
)
def test_the_way_out_goes_by_what_happened(code: str, words: str) -> None:
    text = error_text(report(code=code))
    assert f"{words}\n\n  dna-pipeline retry aaaaaaaa\n" in text
    assert ("YAML" in text) == (code == "empty_mesh")


@pytest.mark.parametrize(
    ("code", "files", "words"),
    [
        ("mask_unreadable", {"mask": "a.mask.png"}, "Replace the mask in `source` by one of the"),
        ("mask_mismatch", {}, "Replace the mask where its path says, then run:"),
        ("sidecar_invalid", {"sidecar": "a.txt"}, "Mend a.txt there, or\nwhatever else is wrong"),
    ],
)
def test_the_way_out_goes_by_the_files(code: str, files: dict[str, str], words: str) -> None:
    parts = [
        InputFilePart(role=role, name=name, sha256=None, bytes=None) for role, name in files.items()
    ]
    told = report(code=code)
    told = told.model_copy(update={"input": told.input.model_copy(update={"files": parts})})
    assert words in error_text(told)
    assert "YAML" not in error_text(told)


@pytest.mark.parametrize("kind", [MaskMismatch, MaskMissing])
def test_the_sentence_about_a_mask_says_which_copy_to_mend(kind: type[JobError]) -> None:
    """A retry reads the one in the failure's folder."""
    assert "`source/` of the failure's folder" in kind().failure().message


def test_names_that_are_no_unicode_do_not_spoil_an_account() -> None:
    told = report(detail="caf\udce9.yaml could tell caf\udce9.png")
    assert told.detail == "caf\\udce9.yaml could tell caf\\udce9.png"
    assert json.loads(to_bytes(told))["detail"] == told.detail
