"""Marks the files of a job: how they came about, and whose image they were made from.

Done here and not in the stages, so that the files of every stage are marked, those of plug-ins
too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dna_pipeline import __version__
from dna_pipeline.base.files import INTERMEDIATE, Artifact, sha256_file, write_bytes
from dna_pipeline.execution.protocol import Order

if TYPE_CHECKING:
    from dna_pipeline.media.marks.credits import Credits
    from dna_pipeline.media.marks.packet import Marks
    from dna_pipeline.media.marks.signing import Signer
    from dna_pipeline.stages.base import Stage

TOOL = "dna-pipeline"
ROLE = "marks"
"""Role of a file that holds the marks of the file beside it."""
SUFFIX = ".xmp"
"""End of the name of such a file, which begins with the whole name of the other."""
MEDIA_TYPE = "application/rdf+xml"

_ALSO_BESIDE = frozenset({"video/mp4"})
"""Media types whose marks also lie beside the file, for programs that look there."""
_UNMARKED = frozenset({"material", INTERMEDIATE})
"""Roles of files that are parts of another one, which is marked, or that are no result."""
UNSIGNED = "The picture is not signed: C2PA has no form for a picture without a model or an input."


class Marking:
    """Marks the files of the stages of one order.

    Args:
        stages: those of the order.
        signer: signs files; None if they are not to be signed.
    """

    def __init__(self, order: Order, stages: Sequence[Stage], signer: Signer | None) -> None:
        self._image = Path(order.image.path)
        self._tags = order.tags
        self._stages = stages
        self._signer = signer

    def check_signer(self) -> None:
        """Raise `SigningUnavailable` if files are to be signed and cannot be.

        To be called before the first stage, so that no result is computed in vain.
        """
        if self._signer is not None and any(stage.metadata != "none" for stage in self._stages):
            self._signer.try_out()

    def for_stage_key(self, stage: Stage) -> dict[str, Any]:
        """Contents of the marks that neither the input nor the parameters of a stage decide, so
        that files with the tags of an earlier attempt are made again."""
        if stage.metadata == "none":
            return {}
        tags = {"tags": list(self._tags)} if self._tags else {}
        return tags | ({} if self._signer is None else {"signed": _identity(self._signer)})

    def mark(
        self, files: list[Artifact], recipe: dict[str, Any], warnings: list[str]
    ) -> list[Artifact]:
        """Mark the files of a stage; return them, then the files that hold the marks of others.

        Args:
            recipe: of the stage's files, with all stages up to that one.
            warnings: gets sentences for the manifest.

        Raises:
            SigningUnavailable: a file cannot be signed.
        """
        stages = self._stages[: len(recipe["stages"])]
        if stages[-1].metadata == "none":
            return files
        marks = self._marks(stages, recipe)
        if marks.is_empty and self._signer is None:
            return files
        beside = [self._mark(file, marks, warnings) for file in files if file.role not in _UNMARKED]
        return [*files, *filter(None, beside)]

    def _mark(self, file: Artifact, marks: Marks, warnings: list[str]) -> Artifact | None:
        """Mark a file; the file beside it, if it needs one."""
        from dna_pipeline.media.marks import embed, packet

        data = file.path.read_bytes()
        embedded = None if marks.is_empty else embed.embed(data, file.media_type, marks)
        result = self._signed(file, embedded or data, marks, warnings)
        if result is not data:
            write_bytes(file.path, result)
        if marks.is_empty or (embedded is not None and file.media_type not in _ALSO_BESIDE):
            return None
        path = file.path.with_name(file.path.name + SUFFIX)
        write_bytes(path, packet.xmp(marks))
        return Artifact(path, ROLE, MEDIA_TYPE, {"describes": file.path.name})

    def _signed(self, file: Artifact, data: bytes, marks: Marks, warnings: list[str]) -> bytes:
        from dna_pipeline.media.marks import signing

        if self._signer is None or file.media_type not in signing.MEDIA_TYPES:
            return data
        # A mesh shows nothing of the image itself, nor do the pictures of it.
        claim = signing.Claim(
            file.path.name, TOOL, __version__, marks.source_type,
            None if file.role not in ("image", "matte") else self._image,
        )  # fmt: skip
        signed = self._signer.sign(data, file.media_type, claim)
        if signed is None:
            warnings.append(UNSIGNED)
        return data if signed is None else signed

    def _marks(self, stages: Sequence[Stage], recipe: dict[str, Any]) -> Marks:
        from dna_pipeline.media.marks.packet import Marks

        of_input = self._credits
        entries = [
            entry
            for stage, entry in zip(stages, recipe["stages"], strict=True)
            if stage.authorship != "keeps"
        ]
        models = [(entry["provider"], entry["model"]) for entry in entries if entry["model"]]
        return Marks(
            tool=f"{TOOL} {__version__}",
            source_type=_source_type(stages, of_input.source_type),
            system=_joined(f"{model['name']} ({provider})" for provider, model in models),
            system_version=_versions(model for _, model in models),
            prompt=_prompts(stages),
            creators=of_input.creators,
            rights=of_input.rights,
            rating=of_input.rating,
            keywords=(*self._tags, *of_input.keywords),
            recipe=_recipe(recipe) if stages[-1].metadata == "full" else "",
        )

    @cached_property
    def _credits(self) -> Credits:
        from dna_pipeline.media.marks.credits import read_credits

        return read_credits(self._image)


def _identity(signer: Signer) -> list[str | None]:
    """Everything that decides a signer's signatures, save what is drawn at random."""
    return [sha256_file(signer.certificate), signer.algorithm, signer.timestamp_url]


def _source_type(stages: Sequence[Stage], of_input: str) -> str:
    """The digital source type of the last stage's files.

    An input that a model made, as its own marks say, stays that when another model reworks it.
    """
    from dna_pipeline.media.marks.packet import GENERATED, REWORKED

    kind = of_input
    for stage in stages:
        if stage.authorship == "generates":
            kind = GENERATED
        elif stage.authorship == "reworks" and kind != GENERATED:
            kind = REWORKED
    return kind


def _versions(models: Iterable[dict[str, Any]]) -> str:
    texts = [
        f"{model['name']} sha256:{model['sha256']}" if model["sha256"] else model["name"]
        for model in models
    ]
    return _joined([f"{TOOL} {__version__}", *texts]) if texts else ""


def _recipe(recipe: dict[str, Any]) -> str:
    return json.dumps(recipe, ensure_ascii=False, separators=(",", ":"))


def _prompts(stages: Sequence[Stage]) -> str:
    """The prompts that were asked for to stand in the marks, if files may have them at all."""
    if stages[-1].metadata != "full":
        return ""
    texts: list[str] = []
    for stage in stages:
        if getattr(stage, "mark_prompt", False):
            prompt, negative = (getattr(stage, n, "") for n in ("prompt", "negative_prompt"))
            texts += [prompt, f"Negative prompt: {negative}" if negative else ""]
    return "\n".join(filter(None, texts))


def _joined(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(texts))
