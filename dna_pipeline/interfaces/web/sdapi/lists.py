"""Lists from which programs of this API choose: checkpoints, samplers, LoRAs, options."""

from __future__ import annotations

from typing import Any

from dna_pipeline.interfaces.web.sdapi.answers import (
    CheckpointAnswer,
    EmbeddingAnswer,
    EmbeddingsAnswer,
    LoraAnswer,
    SamplerAnswer,
    SchedulerAnswer,
)
from dna_pipeline.interfaces.web.sdapi.kept import read_options
from dna_pipeline.interfaces.web.site import Site
from dna_pipeline.operations.serving.catalogue import (
    SAMPLERS,
    SCHEDULES,
    STAGE,
    Checkpoint,
    find_checkpoint,
    list_checkpoints,
    list_embeddings,
    list_loras,
)
from dna_pipeline.operations.serving.pipelines import NoPipeline, img2img_pipeline, last_stage


def checkpoints(site: Site) -> list[CheckpointAnswer]:
    return [
        CheckpointAnswer(
            title=each.title,
            model_name=each.name,
            hash=each.short_hash,
            sha256=each.sha256,
            filename=each.file,
        )
        for each in list_checkpoints(site.config)
    ]


def samplers() -> list[SamplerAnswer]:
    return [
        SamplerAnswer(name=sampler.label, aliases=[name, f"k_{name}"], options={})
        for name, sampler in SAMPLERS.items()
    ]


def schedulers() -> list[SchedulerAnswer]:
    names = ["automatic", *SCHEDULES]
    return [SchedulerAnswer(name=name, label=name.capitalize()) for name in names]


def loras(site: Site) -> list[LoraAnswer]:
    """The LoRAs, by the names that tags of prompts have for them."""
    return [
        LoraAnswer(
            name=entry.name,
            alias=entry.name.rpartition("/")[2],
            path=f"{entry.name}{entry.path.suffix}",
            metadata={"trigger_words": entry.trigger_words} if entry.trigger_words else {},
        )
        for entry in list_loras(site.config)
    ]


def embeddings(site: Site) -> EmbeddingsAnswer:
    loaded: dict[str, EmbeddingAnswer] = {}
    skipped: dict[str, EmbeddingAnswer] = {}
    for entry in list_embeddings(site.config):
        listed = loaded if entry.mismatch is None else skipped
        listed[entry.name.rpartition("/")[2]] = EmbeddingAnswer()
    return EmbeddingsAnswer(loaded=loaded, skipped=skipped)


def options(site: Site) -> dict[str, Any]:
    """The options as they count for a request that overrides none."""
    kept = read_options(site)
    listed = list_checkpoints(site.config)
    params = _pipeline_params(site)
    checkpoint = _checkpoint(listed, kept.checkpoint, params)
    return {
        "sd_model_checkpoint": None if checkpoint is None else checkpoint.title,
        "sd_checkpoint_hash": None if checkpoint is None else checkpoint.sha256,
        "CLIP_stop_at_last_layers": kept.clip_skip or params.get("clip_skip", 1),
        "samples_format": kept.samples_format or "png",
        "sd_vae": "Automatic",
        "sd_lora": "None",
        "sd_hypernetwork": "None",
        "img2img_fix_steps": False,
        "img2img_background_color": "#ffffff",
        "initial_noise_multiplier": 1.0,
        "inpainting_mask_weight": 1.0,
        "return_grid": False,
        "show_progress_every_n_steps": 0,
    }


def _pipeline_params(site: Site) -> dict[str, Any]:
    try:
        stage = last_stage(img2img_pipeline(site.config), STAGE)
    except NoPipeline:
        return {}
    return {} if stage is None else stage.params


def _checkpoint(
    listed: list[Checkpoint], kept: str | None, params: dict[str, Any]
) -> Checkpoint | None:
    """The checkpoint that is kept, else that of the pipeline, else the only one."""
    for name in (kept, params.get("model")):
        if name is not None and (checkpoint := find_checkpoint(listed, name)) is not None:
            return checkpoint
    return listed[0] if len(listed) == 1 else None
