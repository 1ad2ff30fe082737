"""The vocabulary of CLIP's tokenizer, which a checkpoint in one file does not hold."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

MERGES = "merges.txt"
VOCABULARY = "vocab.json"
_PACKED = Path(__file__).with_name("clip_vocabulary") / f"{MERGES}.gz"


def write(folder: Path, source: Path | None = None) -> None:
    """Write `merges.txt` and `vocab.json` into a folder.

    Both have the bytes of those that are published with Stable Diffusion 1.5, unless `source` holds
    a `merges.txt` of its own: then that is taken, and its `vocab.json` if it is there.
    """
    if source is None or not (source / MERGES).is_file():
        merges = gzip.decompress(_PACKED.read_bytes())
    else:
        merges = (source / MERGES).read_bytes()
        if (source / VOCABULARY).is_file():
            shutil.copyfile(source / VOCABULARY, folder / VOCABULARY)
    (folder / MERGES).write_bytes(merges)
    if not (folder / VOCABULARY).exists():
        (folder / VOCABULARY).write_bytes(_numbered(merges.decode("utf-8")))


def _numbered(merges: str) -> bytes:
    """The number of each token as CLIP counts them: bytes, words' ends, merges, start and end."""
    letters = _byte_letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += [merge.replace(" ", "") for merge in merges.splitlines()[1:]]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    numbers = {token: number for number, token in enumerate(tokens)}
    text = json.dumps(numbers, ensure_ascii=False, indent=2, sort_keys=True)
    return f"{text}\n".encode()


def _byte_letters() -> list[str]:
    """GPT-2's visible character for each byte: those that have one, then the rest from U+0100."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [*map(chr, visible), *(chr(256 + i) for i in range(256 - len(visible)))]
