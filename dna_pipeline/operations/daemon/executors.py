"""The executor that pipeline.yaml asks for."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.schema import Config
from dna_pipeline.execution.local_executor import Executor
from dna_pipeline.execution.local_workers import LocalWorkers
from dna_pipeline.execution.ray_executor import RayExecutor, RaySettings
from dna_pipeline.operations.daemon.worker_settings import worker_settings

WORKER = "dna_pipeline.execution.worker.process"


def make_executor(config: Config, wake: Callable[[], None], module: str = WORKER) -> Executor:
    """Make the executor of `runtime.executor`.

    Args:
        wake, module: as for `LocalExecutor`.

    Raises:
        ConfigError: it needs a package that is not installed.
    """
    check_executor(config)
    settings = worker_settings(config)
    if config.runtime.executor == "local":
        return LocalWorkers(settings, wake, module)
    return RayExecutor(settings, ray_settings(config), wake, module)


def check_executor(config: Config) -> None:
    """Raise ConfigError if the executor needs a package that is not installed."""
    if config.runtime.executor == "ray" and find_spec("ray") is None:
        raise ConfigError(
            f"{config.file}: runtime.executor: ray needs the package ray, which is not installed; "
            "on all machines: pip install 'dna-pipeline[ray]'"
        )


def ray_settings(config: Config) -> RaySettings:
    """Extract how to reach the cluster."""
    ray = config.runtime.ray
    return RaySettings(ray.address, ray.work_dir == "transfer")


def has_same_executor(one: Config, other: Config) -> bool:
    """True if both configurations have equal executors with equal workers."""
    kinds = [
        (config.runtime.executor, config.runtime.executor == "ray" and ray_settings(config))
        for config in (one, other)
    ]
    return kinds[0] == kinds[1] and worker_settings(one) == worker_settings(other)
