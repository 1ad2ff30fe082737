"""The pipelines that requests mean which name none: `serve:` in pipeline.yaml, or the first fit."""

from __future__ import annotations

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.schema import Config, Pipeline, StageSpec


class NoPipeline(ConfigError):
    """No pipeline of pipeline.yaml does what is asked for."""

    code = "no_pipeline"


def img2img_pipeline(config: Config) -> Pipeline:
    """Find the pipeline that redraws a picture: `serve.img2img`, else the first whose only stage is
    img2img. Raises `NoPipeline`."""
    if config.serve.img2img is not None:
        return config.pipelines[config.serve.img2img]
    for pipeline in config.pipelines.values():
        if _types(pipeline) == ["img2img"]:
            return pipeline
    raise NoPipeline(
        "no pipeline only redraws a picture; declare one, like `restyle: [{img2img: {}}]`, in "
        "pipeline.yaml, or name the one that is meant: `serve: {img2img: NAME}`"
    )


def mesh_pipeline(config: Config) -> Pipeline:
    """Find the pipeline that makes a mesh of a picture as it is: `serve.triposr`, else the first
    with triposr and without img2img. Raises `NoPipeline`."""
    if config.serve.triposr is not None:
        return config.pipelines[config.serve.triposr]
    for pipeline in config.pipelines.values():
        types = _types(pipeline)
        if "triposr" in types and "img2img" not in types:
            return pipeline
    raise NoPipeline(
        "no pipeline makes a mesh of a picture; declare one, like "
        "`mesh: [{remove_background: {}}, {triposr: {}}]`, in pipeline.yaml, or name the one that "
        "is meant: `serve: {triposr: NAME}`"
    )


def last_stage(pipeline: Pipeline, stage_type: str) -> StageSpec | None:
    """Find the last stage of a type; None if the pipeline has none."""
    return next((s for s in reversed(pipeline.stages) if s.type == stage_type), None)


def models_of(pipeline: Pipeline) -> list[str]:
    """List the models that the pipeline's stages name, in their order, each once."""
    names = [stage.params.get("model") for stage in pipeline.stages]
    return list(dict.fromkeys(name for name in names if name is not None))


def _types(pipeline: Pipeline) -> list[str]:
    return [stage.type for stage in pipeline.stages]
