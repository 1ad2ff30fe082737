"""The part of the configuration that the worker needs."""

from __future__ import annotations

from dna_pipeline.config.schema import Config
from dna_pipeline.execution.local_executor import WorkerSettings


def worker_settings(config: Config) -> WorkerSettings:
    """Extract the part of the configuration that the worker needs."""
    models = {
        name: {"provider": provider.name_in_config, **provider.model_dump(mode="json")}
        for name, provider in config.models.declared.items()
    }
    runtime, folder, signing = config.runtime, config.models.folder, config.signing
    return WorkerSettings(
        device=runtime.device,
        dtype=runtime.dtype,
        data=str(config.data),
        models=models,
        stage_timeout_s=runtime.stage_timeout_s,
        idle_unload_s=runtime.idle_unload_s,
        checkpoints=None if folder is None else str(folder),
        signing=None if signing is None else {
            "certificate": str(signing.certificate), "key": str(signing.key),
            "algorithm": signing.algorithm, "timestamp_url": signing.timestamp_url,
        },
        keeps_results=config.retention.reuse_bytes > 0,
    )  # fmt: skip
