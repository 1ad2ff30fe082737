"""Tags of LoRAs in prompts, as AUTOMATIC1111's web UI reads them: `<lora:clay:0.8>`.

A tag is taken out of the text, and the blanks around it stay. `<lora:clay>` has weight 1, and
`<lyco:clay:0.8>` means the same as `<lora:clay:0.8>`.
"""

from __future__ import annotations

import math
import re

from dna_pipeline.providers.stable_diffusion.prompts.emphasis import PromptError

_TAG = re.compile(r"<(?:lora|lyco)\s*:(?P<arguments>[^<>]+)>", re.IGNORECASE)
MOST_WEIGHT = 10.0
"""Greatest weight of a LoRA, either way."""


def split(prompt: str) -> tuple[str, dict[str, float]]:
    """The prompt without its tags, and the weight of each LoRA that they name.

    Raises:
        PromptError: a tag cannot be obeyed, or two name one LoRA.
    """
    weights: dict[str, float] = {}
    for tag in _TAG.finditer(prompt):
        name, *numbers = (part.strip() for part in tag["arguments"].split(":"))
        if not name:
            raise PromptError(f'"{tag[0]}" names no LoRA')
        if name in weights:
            raise PromptError(f"the prompt names the LoRA {name!r} twice; keep one tag")
        weights[name] = _weight(tag[0], numbers)
    return _TAG.sub("", prompt), weights


def _weight(tag: str, numbers: list[str]) -> float:
    if not numbers:
        return 1.0
    if len(numbers) > 1:
        raise PromptError(
            f'"{tag}" has several weights, which is not supported; write one, as in <lora:clay:0.8>'
        )
    try:
        weight = float(numbers[0])
    except ValueError:
        weight = math.nan
    if re.fullmatch(r"[-+]?\d*,\d+", numbers[0]):
        right = tag.replace(numbers[0], numbers[0].replace(",", "."))
        raise PromptError(f'the weight in "{tag}" has a comma for its decimals; write {right}')
    if not abs(weight) <= MOST_WEIGHT:
        raise PromptError(
            f'the weight in "{tag}" should be a number of at most {MOST_WEIGHT:g}, either way'
        )
    return weight


def with_tags(prompt: str, weights: dict[str, float]) -> str:
    """The prompt with a tag behind it for each LoRA, as other programs read it."""
    tags = "".join(f"<lora:{name}:{number(weight)}>" for name, weight in weights.items())
    return f"{prompt} {tags}".strip() if tags else prompt


def number(value: float) -> str:
    """The number without a fraction where it has none, as other programs write it."""
    return str(int(value)) if value == int(value) else str(value)
