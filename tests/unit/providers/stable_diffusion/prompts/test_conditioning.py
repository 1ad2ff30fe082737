"""Embeddings of prompts, beside those of Diffusers on the same small model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dna_pipeline.providers.stable_diffusion.prompts import conditioning
from dna_pipeline.providers.stable_diffusion.prompts.conditioning import Conditioner, PromptText
from dna_pipeline.providers.stable_diffusion.prompts.emphasis import PromptError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

LONG = ", ".join(f"word {n}" for n in range(40))


@pytest.fixture(scope="module")
def pipeline(models_dir: Path) -> Any:
    from diffusers import StableDiffusionImg2ImgPipeline

    folder = models_dir / "sd-v1-5-local"
    return StableDiffusionImg2ImgPipeline.from_pretrained(folder, local_files_only=True)


@pytest.fixture
def conditioner(pipeline: Any) -> Conditioner:
    return Conditioner(pipeline.tokenizer, pipeline.text_encoder)


def diffusers_embeds(pipeline: Any, text: str) -> torch.Tensor:
    with torch.no_grad():
        return pipeline.encode_prompt(text, "cpu", 1, False)[0]


@pytest.mark.parametrize("syntax", ["a1111", "plain"])
@pytest.mark.parametrize("text", ["", "a clay figurine", "a chair, wooden: oak"])
def test_a_prompt_without_weights_is_that_of_diffusers(
    pipeline: Any, conditioner: Conditioner, text: str, syntax: Any
) -> None:
    embeds = conditioner.encode(PromptText(text, syntax))
    assert torch.equal(embeds, diffusers_embeds(pipeline, text))


def test_a_plain_prompt_is_taken_as_it_is(pipeline: Any, conditioner: Conditioner) -> None:
    for text in ("a ((red)) chair", LONG):
        embeds = conditioner.encode(PromptText(text, "plain"))
        assert torch.equal(embeds, diffusers_embeds(pipeline, text))


def test_weights_scale_their_tokens_and_the_mean_stays(
    pipeline: Any, conditioner: Conditioner
) -> None:
    tokenizer = pipeline.tokenizer
    before, word = (
        len(tokenizer(text, add_special_tokens=False).input_ids) for text in ("a ", "red")
    )
    plain = conditioner.encode(PromptText("a red hat"))
    weighted = conditioner.encode(PromptText("a (red:1.5) hat"))
    factors = torch.ones(77)
    factors[1 + before : 1 + before + word] = 1.5
    expected = plain * factors[:, None]
    expected *= plain.mean() / expected.mean()
    torch.testing.assert_close(weighted, expected)
    assert weighted.mean().item() == pytest.approx(plain.mean().item(), rel=1e-4)


def test_a_long_prompt_is_encoded_block_by_block(pipeline: Any, conditioner: Conditioner) -> None:
    embeds = conditioner.encode(PromptText(LONG))
    blocks = conditioner.blocks(PromptText(LONG))
    assert len(blocks) > 1
    assert embeds.shape[1] == 77 * len(blocks)
    texts = [pipeline.tokenizer.decode(block.tokens) for block in blocks]
    for index, text in enumerate(texts):
        block = embeds[:, 77 * index : 77 * (index + 1)]
        assert torch.equal(block, diffusers_embeds(pipeline, text))


def test_the_shorter_of_two_prompts_gets_empty_blocks(
    pipeline: Any, conditioner: Conditioner
) -> None:
    positive, negative = conditioner.pair(PromptText("a BREAK b"), PromptText("fog"))
    assert positive.shape == negative.shape
    assert torch.equal(negative[:, :77], diffusers_embeds(pipeline, "fog"))
    assert torch.equal(negative[:, 77:], diffusers_embeds(pipeline, ""))


def test_clip_skip_reads_an_earlier_layer(pipeline: Any, conditioner: Conditioner) -> None:
    encoder = pipeline.text_encoder
    ids = pipeline.tokenizer("a hat", padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        layers = encoder(ids, output_hidden_states=True).hidden_states
        expected = getattr(encoder, "text_model", encoder).final_layer_norm(layers[-2])
    assert torch.equal(conditioner.encode(PromptText("a hat", clip_skip=2)), expected)
    assert not torch.equal(expected, conditioner.encode(PromptText("a hat")))


def test_a_prompt_is_encoded_once_for_each_state(pipeline: Any, conditioner: Conditioner) -> None:
    calls: list[int] = []
    hook = pipeline.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    try:
        for _ in range(3):
            conditioner.encode(PromptText("a hat"))
        conditioner.encode(PromptText("a hat", clip_skip=2))
        conditioner.state = "clay 0.8"
        conditioner.encode(PromptText("a hat"))
    finally:
        hook.remove()
    assert len(calls) == 3


def test_the_prompts_that_were_used_last_are_kept(
    pipeline: Any, conditioner: Conditioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditioning, "CACHED", 2)
    calls: list[int] = []
    hook = pipeline.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    try:
        for text in ("a", "b", "a", "c", "a", "b"):
            conditioner.encode(PromptText(text))
    finally:
        hook.remove()
    assert len(calls) == 4


def test_what_is_not_supported_is_refused(conditioner: Conditioner) -> None:
    with pytest.raises(PromptError, match="alternates"):
        conditioner.encode(PromptText("[cow|horse]"))
    conditioner.encode(PromptText("[cow|horse]", "plain"))


# ---------------------------------------------------------------- textual inversions


@pytest.fixture
def vectors(pipeline: Any) -> dict[str, torch.Tensor]:
    width = pipeline.text_encoder.config.hidden_size
    generator = torch.Generator().manual_seed(3)
    return {
        "ink": torch.rand(1, width, generator=generator),
        "ink style": torch.rand(3, width, generator=generator),
    }


@pytest.fixture
def extended(models_dir: Path, vectors: dict[str, torch.Tensor]) -> Iterator[Any]:
    """A pipeline with the same vectors in its vocabulary, as Diffusers loads them."""
    from diffusers import StableDiffusionImg2ImgPipeline

    folder = models_dir / "sd-v1-5-local"
    pipeline: Any = StableDiffusionImg2ImgPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.load_textual_inversion({"<i>": vectors["ink"][0]}, token="<i>")
    pipeline.load_textual_inversion({"<s>": vectors["ink style"]}, token="<s>")
    yield pipeline


def test_a_name_stands_for_its_vectors(
    pipeline: Any, extended: Any, vectors: dict[str, torch.Tensor]
) -> None:
    conditioner = Conditioner(pipeline.tokenizer, pipeline.text_encoder, vectors)
    for text, theirs in {
        "a hat, ink": "a hat, <i>",
        "Ink Style, a hat": "<s>, a hat",
        "ink, ink style": "<i>, <s>",
    }.items():
        prompt = PromptText(text)
        assert torch.equal(conditioner.encode(prompt), diffusers_embeds(extended, theirs))
    assert conditioner.inversions_in(PromptText("ink, (ink style:1.2), ink")) == [
        "ink",
        "ink style",
    ]
    plain = PromptText("a hat")
    assert torch.equal(conditioner.encode(plain), diffusers_embeds(pipeline, "a hat"))


def test_vectors_are_weighted_like_words(pipeline: Any, vectors: dict[str, torch.Tensor]) -> None:
    conditioner = Conditioner(pipeline.tokenizer, pipeline.text_encoder, vectors)
    (block,) = conditioner.blocks(PromptText("(ink style:1.3)"))
    assert block.tokens == [("ink style", 0), ("ink style", 1), ("ink style", 2)]
    assert block.weights == [1.3] * 3
