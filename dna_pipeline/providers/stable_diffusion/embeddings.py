"""Embeddings of prompts, kept for the next request that has the same prompts."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

MOST_TEXTS = 64
"""Most texts whose embeddings are kept: 64 take 15 MB in float32."""


class PromptEmbeddings:
    """The embeddings that a pipeline's text encoder gives for prompts.

    Jobs of an inbox mostly share their prompts. A text's embeddings depend on it and on the text
    encoder alone, which is never changed after it was loaded.

    Args:
        pipeline: of Diffusers.
    """

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self._cache: OrderedDict[str, torch.Tensor] = OrderedDict()

    def pair(self, prompt: str, negative_prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings (1, 77, width) of both prompts, bit for bit those that the pipeline makes."""
        return self._of(prompt), self._of(negative_prompt)

    def _of(self, text: str) -> torch.Tensor:
        import torch

        if text not in self._cache:
            pipeline = self._pipeline
            with torch.no_grad():
                embeds, _ = pipeline.encode_prompt(
                    text,
                    pipeline.device,
                    num_images_per_prompt=1,
                    do_classifier_free_guidance=False,
                )
            self._cache[text] = embeds
            if len(self._cache) > MOST_TEXTS:
                self._cache.popitem(last=False)
        self._cache.move_to_end(text)
        return self._cache[text]
