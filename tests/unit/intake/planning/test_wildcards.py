"""Wildcard files: which lines they give, and how prompts choose among them."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from dna_pipeline.base.errors import ParameterInvalid
from dna_pipeline.config.job_context import JobContext
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.sidecar import JobSpec
from dna_pipeline.config.templates import MAX_CHARS, TemplateError, fill
from dna_pipeline.intake.planning.planner import Planner
from dna_pipeline.intake.planning.wildcards import WildcardFiles

PIPELINE = """
version: 1
paths: {data: data, outbox: outbox}
models: {sd15: {provider: diffusers, path: models/sd}}
pipelines: {restyle: [{img2img: {model: sd15, prompt: PROMPT, seed: SEED}}]}
inboxes: [{path: inbox, pipeline: restyle}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data/wildcards"
    for name, text in {
        "colour": "# warm ones\nred\n\n  orange  \n#blue\n",
        "hats/felt": "__colour__ fedora\n{tall|flat} bowler of {meta.owner}\n",
        "hair_colour": "\ufeffblond\r\n",
        "loop": "x __loop__\n", "empty": "# none\n", "broken": "a {red\n",
    }.items():  # fmt: skip
        path = folder / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    return folder


def filled(folder: Path, text: str, seed: int = 0) -> str:
    return fill(text, {"meta": {"owner": "Ann"}}, seed, WildcardFiles(folder).lines)


def choices(folder: Path, text: str) -> set[str]:
    return {filled(folder, text, seed) for seed in range(64)}


def test_comments_and_blank_lines_are_left_out(folder: Path) -> None:
    assert choices(folder, "a __colour__ cat") == {"a red cat", "a orange cat"}


def test_lines_may_hold_other_files_choices_and_fields(folder: Path) -> None:
    assert choices(folder, "__hats/felt__") == {
        "red fedora", "orange fedora", "tall bowler of Ann", "flat bowler of Ann",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("__hair_colour__ hair", "blond hair"),
        ("(__hair_colour__:1.2), {__hair_colour__|__hair_colour__}", "(blond:1.2), blond"),
        (r"\__colour__", r"\__colour__"),
        ("snake__case__name ____ _x_ __ a __", "snake__case__name ____ _x_ __ a __"),
        ("two __hair_colour__s", "two blonds"),
    ],
)
def test_names_within_text(folder: Path, text: str, expected: str) -> None:
    assert filled(folder, text) == expected


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("__color__", "did you mean __colour__?"),
        ("__hats/../../secret__", "is not there"),
        ("__empty__", "has no lines"),
        ("__loop__", "more than 8 deep: __loop__ in __loop__"),
        ("__broken__", "in wildcard file broken.txt, 'a {red': the { at character 3"),
        ("__latin__", "not written in UTF-8"),
        ("__long__", f"more than {MAX_CHARS:,} characters"),
    ],
)
def test_errors_name_the_file(folder: Path, text: str, part: str) -> None:
    (folder / "latin.txt").write_bytes(b"caf\xe9\n")
    (folder / "long.txt").write_text("x" * (MAX_CHARS + 1))
    (folder.parent / "secret.txt").write_text("secret")
    with pytest.raises(TemplateError) as caught:
        filled(folder, text)
    assert part in str(caught.value)


def test_a_changed_file_is_read_again(folder: Path) -> None:
    files = WildcardFiles(folder)
    assert list(files.lines("hair_colour")) == ["blond"]
    (folder / "hair_colour.txt").write_text("auburn, dark\n")
    assert list(files.lines("hair_colour")) == ["auburn, dark"]


# --- jobs ---


def planner(folder: Path, prompt: str, seed: int = 42) -> Planner:
    root = folder.parent.parent
    file = root / "pipeline.yaml"
    file.write_text(PIPELINE.replace("PROMPT", f'"{prompt}"').replace("SEED", str(seed)))
    config = load_config(file)
    return Planner(config, config.inboxes[0])


def prompt_of(spec: JobSpec) -> str:
    return spec.stages[0].params["prompt"]


def test_a_job_has_the_finished_prompt_of_its_seed(folder: Path) -> None:
    plan = planner(folder, "a __colour__ cat")
    context = JobContext("a.png")
    texts = {
        seed: prompt_of(plan.resolve_one(f"seed: {seed}".encode(), context)) for seed in range(20)
    }
    assert set(texts.values()) == {"a red cat", "a orange cat"}
    again = {
        seed: prompt_of(plan.resolve_one(f"seed: {seed}".encode(), context)) for seed in range(20)
    }
    assert again == texts


def test_images_without_a_sidecar_see_a_changed_file(folder: Path) -> None:
    plan = planner(folder, "a __hair_colour__ cat")

    def prompt() -> str:
        (item,) = plan.plan_image("", "a.png", None, "0" * 64).items
        assert isinstance(item.outcome, JobSpec)
        return prompt_of(item.outcome)

    assert prompt() == "a blond cat"
    (folder / "hair_colour.txt").write_text("ginger tom\n")
    assert prompt() == "a ginger tom cat"


@pytest.mark.parametrize("line", ["[cat:dog:0.5]", "a AND b"])
def test_the_finished_prompt_is_checked_before_it_waits_for_a_worker(
    folder: Path, line: str
) -> None:
    (folder / "bad.txt").write_text(line)
    with pytest.raises(ParameterInvalid, match="not supported"):
        planner(folder, "__bad__").resolve_one(None, JobContext("a.png"))


def test_a_missing_file_is_an_error_of_the_job(folder: Path) -> None:
    with pytest.raises(ParameterInvalid, match="did you mean __colour__"):
        planner(folder, "x").resolve_one(b"img2img: {prompt: a __colours__ cat}", JobContext())


def test_a_name_that_no_file_system_accepts_is_that_of_no_file(folder: Path) -> None:
    with pytest.raises(ParameterInvalid, match="is not there"):
        planner(folder, f"__{'猫' * 84}__").resolve_one(None, JobContext("a.png"))


def test_a_file_that_nobody_may_look_at_is_not_called_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stat(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(TemplateError, match=r"cannot be read: .*Permission denied"):
        WildcardFiles(folder).lines("colour")
