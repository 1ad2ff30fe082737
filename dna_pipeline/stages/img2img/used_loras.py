"""The LoRAs of a job: their weights, their files, and sentences about their trigger words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from dna_pipeline.base.errors import ParameterInvalid, WeightsMismatch
from dna_pipeline.providers.stable_diffusion.prompts import emphasis, tags
from dna_pipeline.stages.base import ExtraFile
from dna_pipeline.weights import slots
from dna_pipeline.weights.extra_files import LORA
from dna_pipeline.weights.loras import Lora
from dna_pipeline.weights.trigger_words import has_any, trigger_words

NO_TRIGGER = "The prompt has none of the trigger words of the LoRA {!r}: {}."


def prompt_and_weights(prompt: str, weights: Mapping[str, float]) -> tuple[str, dict[str, float]]:
    """The prompt without tags, and the weights of all LoRAs, of the tags and of these. Raises
    `PromptError`.

    A LoRA that a tag names too has two weights, of which neither is clearly meant.
    """
    text, tagged = tags.split(prompt)
    if twice := sorted(tagged.keys() & weights.keys()):
        raise emphasis.PromptError(f"the LoRA {twice[0]!r} is in `loras` too; keep one")
    return text, {**weights, **tagged}


def fitting_loras(files: Mapping[str, ExtraFile], weights: Mapping[str, float]) -> list[Lora]:
    """The LoRAs of these weights.

    Args:
        files: the extra files of the job.

    Raises:
        WeightsMismatch: one is no LoRA for a Stable Diffusion 1.5.
        ParameterInvalid: two names mean one file.
    """
    loras = [Lora(name, files[f"{LORA}{name}"].path, one) for name, one in weights.items()]
    names: dict[Path, str] = {}
    for lora in loras:
        if (other := names.setdefault(lora.path, lora.name)) != lora.name:
            text = f"loras: {other!r} and {lora.name!r} mean one file, {lora.path.name}; keep one"
            raise ParameterInvalid(text, where="loras")
        if (why := slots.mismatch(lora.path, slots.LORA)) is not None:
            raise WeightsMismatch(why)
    return loras


def trigger_remarks(prompt: str, loras: Iterable[Lora]) -> Iterator[str]:
    """Write a sentence for each LoRA of whose trigger words the prompt has none. A LoRA of negative
    weight takes something out of the picture, so its words are not missed."""
    for lora in loras:
        words = trigger_words(lora.path) if lora.weight > 0 else []
        if words and not has_any(prompt, words):
            yield NO_TRIGGER.format(lora.name, ", ".join(words))
