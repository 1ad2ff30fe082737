"""The checkpoints, samplers, schedules, LoRAs and embeddings that a job of img2img may name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from dna_pipeline.base.errors import WeightsMissing
from dna_pipeline.config.schema import Config
from dna_pipeline.operations.serving.sampler_words import NEAR_SAMPLERS
from dna_pipeline.providers.base import Provider
from dna_pipeline.providers.stable_diffusion.prompts import emphasis, tags
from dna_pipeline.providers.stable_diffusion.samplers import SAMPLERS, SCHEDULES, sampler_named
from dna_pipeline.weights import extra_files
from dna_pipeline.weights.fingerprint import Fingerprints
from dna_pipeline.weights.loras import LoraFolder

STAGE = "img2img"
SHORT_HASH_CHARS = 10
"""Characters of a checkpoint's SHA-256 that other programs show as its hash."""

__all__ = ["SAMPLERS", "SCHEDULES", "sampler_named"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model for img2img whose weights are there.

    Attributes:
        name: as pipelines and sidecars name it.
        file: name of its file or folder, without a path.
        sha256: None until it was hashed, which the first job with it does.
    """

    name: str
    file: str
    sha256: str | None

    @property
    def short_hash(self) -> str | None:
        return None if self.sha256 is None else self.sha256[:SHORT_HASH_CHARS]

    @property
    def title(self) -> str:
        """The name by which AUTOMATIC1111's web UI lists it: the file, and its hash if known."""
        return self.file if self.short_hash is None else f"{self.file} [{self.short_hash}]"

    @property
    def names(self) -> frozenset[str]:
        """All names that other programs have for it, in small letters."""
        stem = PurePosixPath(self.file).stem
        plain = (self.name, self.file, stem, self.title, self.sha256, self.short_hash)
        both = [f"{stem} [{self.short_hash}]"] if self.short_hash else []
        return frozenset(word.casefold() for word in (*plain, *both) if word)


def list_checkpoints(config: Config) -> list[Checkpoint]:
    """List the models for img2img whose weights are there, in the order of their names' lists.

    Looks at the disk, but hashes nothing.
    """
    fingerprints = Fingerprints(config.data)
    return [
        _checkpoint(fingerprints, name, provider)
        for name, provider in config.models.items()
        if STAGE in provider.stages and provider.missing() is None
    ]


def _checkpoint(fingerprints: Fingerprints, name: str, provider: Provider) -> Checkpoint:
    root, files = provider.weights()
    return Checkpoint(name, root.name if files else name, fingerprints.known_sha256(provider))


def find_checkpoint(checkpoints: Iterable[Checkpoint], text: str) -> Checkpoint | None:
    """Find the checkpoint that other programs name so; None if there is none.

    They name the file, with or without its ending, its folder and its hash, or the hash alone. Our
    own name counts before all others.
    """
    word = text.strip().replace("\\", "/").casefold()
    listed = list(checkpoints)
    own = next((each for each in listed if each.name.casefold() == word), None)
    plain = word.rpartition("/")[2]
    bare = plain.partition(" [")[0]  # the hash of another version of the file
    for name in (word, plain, bare):
        if own is None and name:
            own = next((each for each in listed if name in each.names), None)
    return own


def list_loras(config: Config) -> list[extra_files.Entry]:
    """List the LoRAs, with their trigger words. Reads their headers."""
    return [entry for entry in extra_files.entries(config.data) if entry.kind == "lora"]


def list_embeddings(config: Config) -> list[extra_files.Entry]:
    """List the textual inversions. Reads their headers."""
    return [entry for entry in extra_files.entries(config.data) if entry.kind == "embedding"]


def lora_problem(config: Config, prompt: str) -> str | None:
    """Say what is wrong with the tags of LoRAs in a prompt; None if nothing is.

    A job whose LoRA is not there waits for it, which a program that waits for the job would not
    expect.
    """
    try:
        _, weights = tags.split(prompt)
        LoraFolder(config.data).find(name for name, weight in weights.items() if weight)
    except (emphasis.PromptError, WeightsMissing) as error:
        return str(error)
    return None


def schedule_of(sampler: str) -> str:
    """The schedule that AUTOMATIC1111's web UI takes for a sampler where the user chooses none."""
    return _AUTOMATIC.get(sampler, "normal")


def similar_sampler(text: str) -> str | None:
    """A sampler of ours that is similar to one that is not here; None if no program names one so.

    Args:
        text: a name, perhaps with a schedule behind it.
    """
    return _SIMILAR.get(_plain(text).removeprefix("k").removesuffix(sampler_named(text)[1]))


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.casefold().replace("++", "pp"))


_SIMILAR = {_plain(name): own for name, own in NEAR_SAMPLERS.items()} | {
    "ddimcfgpp": "ddim", "dpmad": "dpmpp_2m", "dpmpp2mv2": "dpmpp_2m",
    "dpmpp2msdeheun": "dpmpp_2m_sde", "dpmpp2sa": "dpmpp_sde", "restart": "euler",
}  # fmt: skip
"""By the names of samplers that AUTOMATIC1111's web UI and others have, reduced to letters and
digits."""

_AUTOMATIC = {
    "dpmpp_2m": "karras", "dpmpp_sde": "karras", "dpmpp_2m_sde": "exponential", "dpm2": "karras",
    "dpm2_a": "karras",
}  # fmt: skip


def sampler_labels() -> Sequence[str]:
    """The names of all samplers as AUTOMATIC1111's web UI shows them."""
    return [sampler.label for sampler in SAMPLERS.values()]
