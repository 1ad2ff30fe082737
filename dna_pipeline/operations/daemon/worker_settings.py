"""The part of the configuration that the workers need."""

from __future__ import annotations

import os
import sys

from dna_pipeline.config.schema import Config
from dna_pipeline.execution.worker_child import WorkerSettings


def worker_settings(config: Config) -> tuple[WorkerSettings, ...]:
    """Extract the part of the configuration that each worker needs, in the order of
    `runtime.device`."""
    devices = config.runtime.devices
    threads = config.runtime.threads_per_worker
    if threads is None and len(devices) > 1 and config.runtime.executor == "local":
        threads = max(_cores() // len(devices), 1)
    return tuple(
        _settings_of(config, device, number, threads) for number, device in enumerate(devices, 1)
    )


def _cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _settings_of(config: Config, device: str, number: int, threads: int | None) -> WorkerSettings:
    models = {
        name: {"provider": provider.name_in_config, **provider.model_dump(mode="json")}
        for name, provider in config.models.declared.items()
    }
    runtime, folder, signing = config.runtime, config.models.folder, config.signing
    return WorkerSettings(
        device=device,
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
        number=number,
        threads=threads,
        most_orders=runtime.jobs_per_worker,
        batch_size=None if runtime.batch_size == "auto" else runtime.batch_size,
        keeps_results=config.retention.reuse_bytes > 0,
    )  # fmt: skip
