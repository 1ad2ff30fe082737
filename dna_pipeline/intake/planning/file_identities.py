"""Identities of the files that jobs read besides their images, for dedup keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from functools import cache, cached_property
from typing import Any

from dna_pipeline.base.errors import WeightsMissing
from dna_pipeline.config.schema import Config
from dna_pipeline.config.sidecar import ResolvedStage
from dna_pipeline.stages import registry
from dna_pipeline.weights.fingerprint import Fingerprints

ModelIdentities = Callable[[str], Any]
"""Values that identify the model of a name, for dedup keys."""


class FileIdentities:
    """Identities of models and extra files. Reads nothing before it is asked."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def models(self) -> ModelIdentities:
        """A function that identifies a model by its name in the config, its settings and its files.

        It reads a model when it is first asked about it, since reading a large one for the first
        time takes a while.
        """
        prints = Fingerprints(self._config.data)

        @cache
        def identity(name: str) -> Any:
            if (provider := self._config.models.get(name)) is None:
                return None
            content = None
            with suppress(OSError):  # the worker will report it
                content = None if provider.missing() else prints.of(provider)
            options = provider.model_dump(mode="json", exclude=set(provider.machine_options))
            return [provider.name_in_config, options, content]

        return identity

    def extra_files(self, stages: Iterable[ResolvedStage]) -> dict[str, str]:
        """Hashes of the files that the stages may read besides their models; none where one that
        is needed is not there, or one cannot be read, which the worker will report."""
        with suppress(OSError, WeightsMissing):
            files = registry.extra_files(map(asdict, stages), self._config.data)
            return {name: self._prints.sha256(path) for name, path in files.items()}
        return {}

    @cached_property
    def _prints(self) -> Fingerprints:
        return Fingerprints(self._config.data)
