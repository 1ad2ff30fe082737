"""Blocks of tokens: where a long prompt is cut."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dna_pipeline.providers.stable_diffusion.prompts.blocks import Block, Vectors, to_blocks
from dna_pipeline.providers.stable_diffusion.prompts.emphasis import Words, parse

COMMA = 0


def tokenize(text: str) -> Iterator[int | Vectors]:
    """Words are numbers, `,` is the comma, `<name>*n` is a textual inversion with n vectors."""
    for word in text.replace(",", " , ").split():
        if word.startswith("<"):
            name, _, count = word.partition("*")
            yield Vectors(name, int(count))
        else:
            yield COMMA if word == "," else int(word)


def blocks_of(prompt: str) -> list[list[object]]:
    return [list(block.tokens) for block in to_blocks(parse(prompt), tokenize, COMMA)]


def count(first: int, last: int) -> str:
    return " ".join(map(str, range(first, last + 1)))


def test_a_short_prompt_is_one_block_and_an_empty_one_an_empty_block() -> None:
    assert blocks_of("1 2 , 3") == [[1, 2, 0, 3]]
    assert blocks_of("") == [[]]


def test_75_tokens_are_one_block_and_76_are_two() -> None:
    assert blocks_of(count(1, 75)) == [list(range(1, 76))]
    assert blocks_of(count(1, 76)) == [list(range(1, 76)), [76]]
    assert [len(block) for block in blocks_of(count(1, 226))] == [75, 75, 75, 1]


@pytest.mark.parametrize(
    ("after", "sizes"),
    [
        (0, [75, 1]),  # the comma is the last token of the block
        (5, [70, 6]),
        (19, [56, 20]),
        (20, [75, 1]),  # the comma is the 21st from the end
    ],
)
def test_a_block_ends_behind_a_comma_among_its_last_20_tokens(after: int, sizes: list[int]) -> None:
    prompt = f"{count(1, 74 - after)}, {count(100, 100 + after)}"
    assert [len(block) for block in blocks_of(prompt)] == sizes


def test_a_comma_that_is_the_76th_token_does_not_cut_behind_an_earlier_one() -> None:
    prompt = f"{count(1, 60)}, {count(100, 113)}, 7"
    assert [len(block) for block in blocks_of(prompt)] == [75, 2]


def test_a_comma_of_an_earlier_block_is_forgotten() -> None:
    prompt = f"{count(1, 70)}, {count(100, 180)}"
    assert [len(block) for block in blocks_of(prompt)] == [71, 75, 6]


def test_a_break_begins_a_block() -> None:
    assert blocks_of("1 2 BREAK 3") == [[1, 2], [3]]
    assert blocks_of("1 BREAK BREAK 3") == [[1], [], [3]]
    assert blocks_of("1 BREAK") == [[1]]
    assert blocks_of("BREAK 1") == [[], [1]]


def test_the_comma_before_a_break_is_forgotten_behind_it() -> None:
    prompt = f"1, BREAK {count(100, 180)}"
    assert [len(block) for block in blocks_of(prompt)] == [2, 75, 6]


def test_each_token_has_the_weight_of_its_words() -> None:
    sections = [[Words("1 2"), Words("3", 1.5)], [Words("4", 0.5)]]
    assert to_blocks(sections, tokenize, COMMA) == [
        Block([1, 2, 3], [1.0, 1.0, 1.5]),
        Block([4], [0.5]),
    ]


def test_weights_move_with_their_tokens() -> None:
    prompt = f"{count(1, 70)}, ({count(100, 110)}:1.5)"
    first, second = to_blocks(parse(prompt), tokenize, COMMA)
    assert (len(first.tokens), set(first.weights)) == (71, {1.0})
    assert (len(second.tokens), set(second.weights)) == (11, {1.5})


def test_a_textual_inversion_is_never_cut() -> None:
    assert blocks_of("1 <a>*2 3") == [[1, ("<a>", 0), ("<a>", 1), 3]]
    first, second = blocks_of(f"{count(1, 74)} <a>*2")
    assert (len(first), second) == (74, [("<a>", 0), ("<a>", 1)])
