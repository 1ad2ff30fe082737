"""Fields and wildcards in texts: what they come to, and what a wrong one is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dna_pipeline.base.errors import ConfigError, ParameterInvalid
from dna_pipeline.config.job_context import JobContext
from dna_pipeline.config.schema import Config
from dna_pipeline.config.sidecar import JobSpec, parse_sidecar, resolve
from dna_pipeline.config.templates import MAX_CHARS, TemplateError, check, fill, literal, plain

DATA = {
    "tags": "hero, wood", "name": "cat.png", "stem": "cat", "folder": "a/b", "inbox": "in",
    "pipeline": "restyle", "row": "", "batch": "", "seed": 7,
    "meta": {"asset": "chair_01", "size": {"x": 2.5, "n": 3}, "ok": True, "list": [1], "no": None},
}  # fmt: skip


def filled(text: str, seed: int = 0) -> str:
    return fill(text, DATA, seed)


def choices(text: str) -> set[str]:
    return {filled(text, seed) for seed in range(64)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("a | b, (cat:1.2) [x]", "a | b, (cat:1.2) [x]"),
        ("{meta.asset} of {meta.size.x}x{ meta.size.n }", "chair_01 of 2.5x3"),
        ("{name} {stem} {folder} {inbox} {pipeline} {seed}", "cat.png cat a/b in restyle 7"),
        ("[{tags}{row}{batch}]", "[hero, wood]"),
        ("{{a|b}} {{{seed}}}", "{a|b} {7}"),
        ("}}{{", "}{"),
        ("{same|same}", "same"),
        ("{||}", ""),
        ("{{seed}}", "{seed}"),
    ],
)
def test_texts(text: str, expected: str):
    assert filled(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{a|b|c}", {"a", "b", "c"}),
        ("x{ big|}", {"x big", "x"}),
        ("{a||b}", {"a", "", "b"}),
        ("{a {x|y}|b}", {"a x", "a y", "b"}),
        ("{a|{x|{y|z}}}", {"a", "x", "y", "z"}),
        ("{{{a|b}}}", {"{a}", "{b}"}),
        ("{a|{{b}}}", {"a", "{b}"}),
        ("{{{{|{a|b}", {"{{|a", "{{|b"}),
        ("{ {seed}|{meta.asset}}", {" 7", "chair_01"}),
        ("{a|b}{c|d}", {"ac", "ad", "bc", "bd"}),
    ],
)
def test_every_choice_can_come(text: str, expected: set[str]):
    assert choices(text) == expected


def test_equal_seeds_choose_alike_and_choices_are_fair():
    text = "{a|b|c|d} {1|2|3|4}"
    assert [filled(text, seed) for seed in range(9)] == [filled(text, seed) for seed in range(9)]
    counts = Counter(filled(text, seed) for seed in range(1600))
    assert len(counts) == 16
    assert min(counts.values()) > 50


def test_the_choices_of_a_seed_are_the_same_for_ever():
    """A recorded seed and a template must give the same prompt in any later version."""
    said = [filled("{a|b|c|d|e}{f|g|h}", seed) for seed in (0, 1, 42, 2**63 - 1)]
    assert said == ["eh", "ah", "df", "bg"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{nme}", "unknown field {nme}; did you mean 'name'?"),
        ("{}", "unknown field {}; known here: batch, folder, inbox, meta.…, name,"),
        ("{meta}", "unknown field {meta}"),
        ("{name.x}", "unknown field {name.x}"),
        ("{meta.aset}", "unknown field {meta.aset}; did you mean 'meta.asset'?"),
        ("{meta.size.y}", "unknown field {meta.size.y}; did you mean 'meta.size.x'?"),
        ("{meta.asset.x}", "unknown field {meta.asset.x}; did you mean 'meta.asset'?"),
        ("{same|same {meta.gone}}", "unknown field {meta.gone}"),
        ("{meta.size}", "{meta.size} is a mapping, not text or a number"),
        ("{meta.ok}", "{meta.ok} is true, not text or a number"),
        ("{meta.list}", "{meta.list} is a list, not"),
        ("{meta.no}", "{meta.no} is null, not"),
        ("ab {c", "the { at character 4 is not closed; for a brace write {{"),
        ("{a|b", "the { at character 1 is not closed"),
        ("{a|{name}", "the { at character 1 is not closed"),
        ("a } b", "the } at character 3 closes nothing; for a brace write }}"),
        ("{{a|b}|c}", "the } at character 6 closes nothing"),
        ("{a {b|c}}", "a wildcard needs at least two options, like {a|b}"),
        ("{a|" * 9 + "}" * 9, "more than 8 deep"),
        ("x" * (MAX_CHARS + 1), "comes to more than 10,000 characters"),
        ("{meta.asset}" * 2000, "comes to more than 10,000 characters"),
    ],
)
def test_wrong_texts(text: str, told: str):
    with pytest.raises(TemplateError) as caught:
        filled(text)
    assert told in str(caught.value)


def test_what_fits_exactly():
    assert len(filled("x" * MAX_CHARS)) == MAX_CHARS
    assert filled("{a|" * 8 + "}" * 8) is not None


@given(st.text(alphabet=st.characters(exclude_characters="{}", codec="utf-8")), st.integers())
def test_text_without_braces_and_wildcards_is_unchanged(text: str, seed: int):
    assume("__" not in text)
    assert fill(text, DATA, seed) == text


@given(st.text(alphabet="{}|a.", max_size=30) | st.lists(st.sampled_from(
    ["{", "}", "{{", "}}", "|", "seed", "meta.asset", "meta.size", "x", " ", "é"])).map("".join),
    st.integers(min_value=0, max_value=2**63))  # fmt: skip
def test_no_text_is_worse_than_a_template_error(text: str, seed: int):
    try:
        check(text)
        result = fill(text, DATA, seed)
    except TemplateError as error:
        assert str(error)
        return
    assert fill(text, DATA, seed) == result


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=50), st.integers(0, 9))
def test_doubled_braces_give_any_text(text: str, seed: int):
    assume("__" not in text)
    assert fill(text.replace("{", "{{").replace("}", "}}"), DATA, seed) == text


@given(
    st.text(alphabet=st.characters(codec="utf-8"), max_size=50)
    | st.text(alphabet="_{}|\\ab ", max_size=30),
    st.integers(0, 9),
)
def test_any_text_has_a_template(text: str, seed: int):
    assert fill(literal(text), DATA, seed) == text


@pytest.mark.timeout(20)  # in seconds; without a bound it takes hours
def test_long_names_of_wildcard_files_are_no_names():
    text = " __a" * 200_000
    with pytest.raises(TemplateError, match="more than"):
        fill(text, DATA, 1)


# --- in a job ---

PIPELINE = """\
version: 1
models:
  sd15: {provider: diffusers, path: sd}
pipelines:
  restyle:
    - {img2img: {}}
    - {img2img: {id: again, %s}}
inboxes:
  - {path: in, pipeline: restyle, defaults: {%s}}
"""
FACTS = JobContext("cat.png", "a/b", "in", "set", 3, "0000000f" + "0" * 56)

Resolve = Callable[..., JobSpec]


@pytest.fixture
def job(read: Callable[[str], Config]) -> Resolve:
    def job(text: str, *, stage="seed: 1", defaults="", facts=FACTS, draw=lambda: 5) -> JobSpec:
        config = read(PIPELINE % (stage, defaults))
        return resolve(config, config.inboxes[0], parse_sidecar(text.encode()), draw, facts)

    return job


def prompts(spec: JobSpec) -> list[str]:
    return [stage.params["prompt"] for stage in spec.stages]


def seeds(spec: JobSpec) -> list[object]:
    return [stage.params["seed"] for stage in spec.stages]


def test_a_job_tells_its_data(job: Resolve):
    text = (
        "tags: [hero, wood]\nmeta: {asset: chair}\nimg2img: {seed: -1, prompt: '{tags}; "
        "{meta.asset}; {name}; {stem}; {folder}; {inbox}; {pipeline}; {seed}; {row}; {batch}'}"
    )
    told = "hero, wood; chair; cat.png; cat; a/b; in; restyle; 5; 3; set"
    assert prompts(job(text))[0] == told


def test_every_layer_may_hold_templates(job: Resolve):
    spec = job(
        "meta: {a: 1}", stage="prompt: '{stem} {meta.a}'", defaults="img2img: {prompt: '{name}'}"
    )
    assert prompts(spec) == ["cat.png", "cat.png"]
    assert prompts(job("meta: {a: 1}", stage="prompt: '{stem} {meta.a}'")) == ["", "cat 1"]


def test_what_is_not_known_yet_is_empty(job: Resolve):
    text = "img2img: {prompt: '[{name}{row}{batch}] {inbox}'}"
    assert prompts(job(text, facts=None))[0] == "[] in"


def test_only_definite_texts_are_chosen_from(job: Resolve):
    """Each stage chooses by its own seed, and a drawn one is drawn before."""
    text = "img2img: {prompt: '{a|b|c|d|e|f} {seed}', seed: -1}\nagain: {seed: 9}"
    numbers = iter(range(100, 200))
    seen = {tuple(prompts(job(text, draw=lambda: next(numbers)))) for _ in range(20)}
    assert len({first[0] for first, _ in seen}) > 2
    assert len({second for _, second in seen}) == 1


def test_seeds_from_content(job: Resolve):
    assert seeds(job("seed: from_content")) == [15, 15]
    assert seeds(job("img2img: {seed: from_content}\nagain: {seed: 1}")) == [15, 1]
    assert seeds(job("", defaults="again: {seed: from_content}")) == [42, 15]
    assert seeds(job("", stage="seed: from_content")) == [42, 15]
    assert seeds(job("seed: from_content", facts=None)) == ["from_content"] * 2
    assert prompts(job("seed: from_content\nimg2img: {prompt: '{seed}'}"))[0] == "15"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\nimg2img:\n  prompt: '{nme}'",
         "line 3: img2img.prompt: unknown field {nme}; did you mean 'name'?"),
        ("meta: {asset: 1}\nagain:\n  positive_prompt: '{meta.aset}'",
         "line 3: again.positive_prompt: unknown field {meta.aset}; did you mean 'meta.asset'?"),
        ("img2img: {prompt: '{meta.b}'}\nmeta:\n  b: [1]",
         "line 1: img2img.prompt: {meta.b} is a list, not text or a number"),
        ("img2img: {prompt: '{'}",
         "line 1: img2img.prompt: the { at character 1 is not closed; for a brace write {{"),
    ],
)  # fmt: skip
def test_a_wrong_template_is_told_by_its_line(job: Resolve, text: str, told: str):
    with pytest.raises(ParameterInvalid) as caught:
        job(text)
    assert caught.value.detail.splitlines()[0] == told


def test_a_template_of_pipeline_yaml_that_a_job_cannot_fill(job: Resolve):
    with pytest.raises(ParameterInvalid) as caught:
        job("meta: {asset: 1}", defaults="again: {prompt: '{meta.aset}'}")
    assert caught.value.detail == (
        "again.prompt: unknown field {meta.aset}; did you mean 'meta.asset'? "
        "(as pipeline.yaml has it)"
    )


def test_pipeline_yaml_is_checked_when_it_is_read(job: Resolve):
    with pytest.raises(ConfigError, match=r"defaults.img2img.prompt: unknown field {nme}; did"):
        job("", defaults="img2img: {prompt: '{nme}'}")
    with pytest.raises(ConfigError, match=r"\[1\].img2img.prompt: the { at character 1 is not"):
        job("", stage="prompt: '{a'")


@given(st.text(alphabet="ab{}|", max_size=40))
def test_a_plain_text_comes_to_itself(text: str):
    assert filled(plain(text)) == text
