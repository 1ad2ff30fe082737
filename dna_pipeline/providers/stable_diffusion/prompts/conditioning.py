"""Embeddings of prompts, which the UNet reads: tokens are encoded in blocks and then weighted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dna_pipeline.providers.stable_diffusion.prompts.blocks import (
    Block,
    Token,
    Vectors,
    to_blocks,
)
from dna_pipeline.providers.stable_diffusion.prompts.emphasis import parse

if TYPE_CHECKING:
    import torch

CACHED = 64
"""Most prompts whose embeddings are kept: 64 of 75 tokens take 15 MB in float32."""


@dataclass(frozen=True, slots=True)
class PromptText:
    """A prompt, and how it is read.

    Attributes:
        clip_skip: 1: the text encoder's last layer; 2: the one before it, and so on. The encoder's
            final normalisation is applied either way.
    """

    text: str
    syntax: Literal["a1111", "plain"] = "a1111"
    clip_skip: int = 1


class Conditioner:
    """A tokenizer and a text encoder; encodes prompts and keeps the last results.

    Args:
        inversions: vectors (count, width) of textual inversions by name. A name in a prompt stands
            for its vectors.

    Attributes:
        state: names all else that the encoder's results depend on, such as its LoRAs.
    """

    def __init__(
        self, tokenizer: Any, encoder: Any, inversions: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._encoder = encoder
        self._comma = next(iter(self._ids(",")))
        self._cache: OrderedDict[tuple[PromptText, str, str], torch.Tensor] = OrderedDict()
        self.state = ""
        self.use(inversions or {})

    def use(self, inversions: Mapping[str, torch.Tensor], identity: str = "") -> None:
        """Replace the textual inversions; `identity` names them and their files."""
        self._inversions = dict(inversions)
        self._identity = identity
        spellings = ((tuple(self._ids(name)), name) for name in self._inversions)
        self._spellings = sorted(
            (spelling for spelling in spellings if spelling[0]),
            key=lambda spelling: len(spelling[0]),
            reverse=True,
        )

    @property
    def block_size(self) -> int:
        """Number of tokens in a block, without start and end: 75."""
        return self._tokenizer.model_max_length - 2

    def blocks(self, prompt: PromptText) -> list[Block]:
        """Tokens of a prompt. A plain one is cut off behind its first block, as Diffusers does.

        Raises:
            PromptError: its syntax is not supported.
        """
        if prompt.syntax == "plain":
            return self._first_block(prompt)
        return to_blocks(parse(prompt.text), self._tokenize, self._comma, self.block_size)

    def pair(self, positive: PromptText, negative: PromptText) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings of both prompts, (1, 77 n, width) each; the shorter one is followed by empty
        blocks, since the UNet reads both at once."""
        prompts = [self.encode(positive), self.encode(negative)]
        length = max(embeds.shape[1] for embeds in prompts)
        first, second = (
            self._lengthened(embeds, length, prompt.clip_skip)
            for embeds, prompt in zip(prompts, (positive, negative), strict=True)
        )
        return first, second

    def encode(self, prompt: PromptText) -> torch.Tensor:
        """Embeddings (1, 77 n, width) of a prompt of n blocks, in the encoder's dtype."""
        import torch

        key = (prompt, self.state, self._identity)
        if key not in self._cache:
            with torch.no_grad():
                parts = [self._encode(b, prompt.clip_skip) for b in self.blocks(prompt)]
            self._cache[key] = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
            if len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]

    def inversions_in(self, prompt: PromptText) -> list[str]:
        """Names of the textual inversions that a prompt uses, each once."""
        tokens = (token for block in self.blocks(prompt) for token in block.tokens)
        return list(dict.fromkeys(token[0] for token in tokens if isinstance(token, tuple)))

    def _lengthened(self, embeds: torch.Tensor, length: int, clip_skip: int) -> torch.Tensor:
        import torch

        missing = (length - embeds.shape[1]) // (self.block_size + 2)
        if not missing:
            return embeds
        empty = self.encode(PromptText("", clip_skip=clip_skip))
        return torch.cat([embeds, *[empty] * missing], dim=1)

    # --- tokens ---

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids

    def _tokenize(self, text: str) -> Iterator[int | Vectors]:
        """Tokens of a text, with the names of textual inversions replaced, the longest first."""
        ids = self._ids(text)
        position = 0
        while position < len(ids):
            spelling, name = next(
                (
                    (spelling, name)
                    for spelling, name in self._spellings
                    if tuple(ids[position : position + len(spelling)]) == spelling
                ),
                (None, ""),
            )
            if spelling is None:
                yield ids[position]
                position += 1
            else:
                yield Vectors(name, len(self._inversions[name]))
                position += len(spelling)

    def _first_block(self, prompt: PromptText) -> list[Block]:
        ids = self._ids(prompt.text)[: self.block_size]
        return [Block(list[Token](ids), [1.0] * len(ids))]

    # --- embeddings ---

    def _encode(self, block: Block, clip_skip: int) -> torch.Tensor:
        """Embeddings (1, 77, width) of one block, weighted."""
        import torch

        tokens = self._padded(block.tokens)
        ids = [
            token if isinstance(token, int) else self._tokenizer.pad_token_id for token in tokens
        ]
        with self._vectors_of(tokens):
            embeds = self._hidden(torch.tensor([ids], device=self._encoder.device), clip_skip)
        if any(weight != 1.0 for weight in block.weights):
            embeds = _weighted(embeds, [1.0, *block.weights])
        return embeds.to(self._encoder.dtype)

    def _padded(self, tokens: Sequence[Token]) -> list[Token]:
        """The tokens between the start and the end, padded to the encoder's length."""
        start, end = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        padding = [self._tokenizer.pad_token_id] * (self.block_size - len(tokens))
        return [start, *tokens, end, *padding]

    def _hidden(self, ids: torch.Tensor, clip_skip: int) -> torch.Tensor:
        if clip_skip == 1:
            return self._encoder(ids)[0]
        layers = self._encoder(ids, output_hidden_states=True).hidden_states
        text_model = getattr(self._encoder, "text_model", self._encoder)
        return text_model.final_layer_norm(layers[-clip_skip])

    @contextmanager
    def _vectors_of(self, tokens: Sequence[Token]) -> Generator[None]:
        """Put the vectors of textual inversions into their places within the block."""
        places = {i: token for i, token in enumerate(tokens) if not isinstance(token, int)}
        if not places:
            yield
            return

        def replace(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            output = output.clone()
            for place, (name, index) in places.items():
                output[0, place] = self._inversions[name][index].to(output)
            return output

        hook = self._encoder.get_input_embeddings().register_forward_hook(replace)
        try:
            yield
        finally:
            hook.remove()


def _weighted(embeds: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """Multiply each token's embedding by its weight, and bring all back to their former mean.

    Args:
        embeds: (1, 77, width).
        weights: of the first tokens; all others have weight 1.
    """
    import torch

    factors = torch.ones(embeds.shape[1], dtype=torch.float32, device=embeds.device)
    factors[: len(weights)] = torch.tensor(list(weights), dtype=torch.float32)
    exact = embeds.float()
    weighted = exact * factors[:, None]
    mean = weighted.mean()
    return weighted * (exact.mean() / mean) if mean != 0 else weighted
