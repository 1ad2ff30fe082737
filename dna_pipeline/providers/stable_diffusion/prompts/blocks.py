"""Blocks of tokens: a text encoder reads 75 at once, and a longer prompt is read block by block.

A prompt is cut where a block is full, or behind the last comma if that is among the block's last 20
tokens, so that no phrase is torn. This is what AUTOMATIC1111's web UI does with its default
settings, so a prompt written for it means the same here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from dna_pipeline.providers.stable_diffusion.prompts.emphasis import Words

COMMA_REACH = 20
"""A block may end behind a comma that is at most so many tokens before its end."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """A textual inversion in a prompt: so many tokens with embeddings of their own.

    Attributes:
        name: of the textual inversion.
        count: number of its vectors.
    """

    name: str
    count: int


Token = int | tuple[str, int]
"""A token of the vocabulary, or name and index of a vector of a textual inversion."""


@dataclass(slots=True)
class Block:
    """Tokens that are encoded together, without start, end and padding, and a weight for each."""

    tokens: list[Token] = field(default_factory=list[Token])
    weights: list[float] = field(default_factory=list[float])

    def add(self, token: Token, weight: float) -> None:
        self.tokens.append(token)
        self.weights.append(weight)

    def split(self, index: int) -> Block:
        """Cut the block before that token, and give the rest."""
        rest = Block(self.tokens[index:], self.weights[index:])
        del self.tokens[index:], self.weights[index:]
        return rest


def to_blocks(
    sections: Sequence[Sequence[Words]],
    tokenize: Callable[[str], Iterable[int | Vectors]],
    comma: int,
    size: int = 75,
) -> list[Block]:
    """Put the tokens of a prompt into blocks of at most `size`; at least one block, maybe empty.

    Args:
        sections: as `emphasis.parse` gives them; each but the first begins a new block.
        tokenize: gives the tokens of a piece of text, without start and end.
        comma: the token of a comma that ends a word.
    """
    filler = _Filler(comma, size)
    for number, section in enumerate(sections):
        if number:
            filler.next_block()
        for words in section:
            for token in tokenize(words.text):
                filler.add(token, words.weight)
    if len(filler.blocks) > 1 and not filler.blocks[-1].tokens:
        filler.blocks.pop()  # nothing follows the last BREAK
    return filler.blocks


@dataclass(slots=True)
class _Filler:
    """Fills one block after the other."""

    comma: int
    size: int
    blocks: list[Block] = field(default_factory=lambda: [Block()])
    last_comma: int | None = None
    """Index of the last comma in the block that is filled."""

    def add(self, token: int | Vectors, weight: float) -> None:
        block = self.blocks[-1]
        if token == self.comma:
            self.last_comma = len(block.tokens)
        elif len(block.tokens) == self.size and self._is_comma_near():
            assert self.last_comma is not None
            rest = block.split(self.last_comma + 1)
            self.next_block()
            self.blocks[-1] = rest
        count = token.count if isinstance(token, Vectors) else 1
        if len(self.blocks[-1].tokens) + count > self.size:
            self.next_block()
        if isinstance(token, Vectors):
            for index in range(min(token.count, self.size)):
                self.blocks[-1].add((token.name, index), weight)
        else:
            self.blocks[-1].add(token, weight)

    def next_block(self) -> None:
        self.blocks.append(Block())
        self.last_comma = None

    def _is_comma_near(self) -> bool:
        last = self.last_comma
        return last is not None and len(self.blocks[-1].tokens) - last <= COMMA_REACH
