"""Requests of jobs for results, and a forecast of the stages that will take a kept one.

The worker knows the true key of a result (`execution/worker/reuse.py: Reuse.key`), for which it
hashes what the stages before have made. An estimate needs no such key: a request stands for all
that a job asks of a stage, and the store remembers to which requests its results belong.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from dna_pipeline.config.schema import Config
from dna_pipeline.execution.result_store import ALL, ResultStore
from dna_pipeline.stages import companions, registry
from dna_pipeline.stages.base import NOT_OF_RESULT
from dna_pipeline.weights.fingerprint import file_identity

if TYPE_CHECKING:
    from dna_pipeline.ledger.tables import Drop, Job


@dataclass(frozen=True, slots=True)
class Request:
    """Everything that a job asks of one stage, as hashes.

    Attributes:
        whole: equal for stages that are to make the same files; "" if the stage is to be computed.
        part: equal for stages that go on from the same part; "" if there is none.
    """

    whole: str
    part: str


class JobRequests:
    """The requests of jobs. Models are looked at once, so it is made anew for each use."""

    def __init__(self, config: Config) -> None:
        self._models = config.models
        self._identity = cache(self._identify)

    def of(
        self, stages: Sequence[Mapping[str, Any]], inputs: Sequence[str], stem: str, tags: list[str]
    ) -> list[Request]:
        """The requests of a job's stages, in their order.

        Args:
            stages: as the column `jobs.stages` has them.
            inputs: SHA-256 of the image, then of its companions; none if they are unknown.
        """
        if not inputs:
            return [Request("", "")] * len(stages)
        requests: list[Request] = []
        before: list[Any] = [list(inputs)]
        for spec in stages:
            params = {n: v for n, v in spec["params"].items() if n not in NOT_OF_RESULT}
            model = self._identity(params.get("model"))
            own = [spec["id"], spec["type"], params, model]
            if spec["params"].get("reuse") == "off":
                requests.append(Request("", ""))
            else:
                part = _part_of(spec, params)
                requests.append(
                    Request(
                        _hash([*before, own, stem, tags]),
                        "" if part is None else _hash([*before, part, model]),
                    )
                )
            before.append(own)
        return requests

    def of_row(self, row: Mapping[str, Any]) -> list[Request]:
        """The requests of a job, from a row with the columns `stages`, `stem` and `tags` of the job
        and `sha256` and `companions` of its drop."""
        inputs = inputs_of(row["sha256"], row["companions"], row["stages"])
        return self.of(row["stages"], inputs, row["stem"], row["tags"])

    def of_job(self, job: Job, drop: Drop) -> list[Request]:
        """The requests of a job of the ledger."""
        inputs = inputs_of(drop.sha256, drop.companions, job.stages)
        return self.of(job.stages, inputs, job.stem, job.tags)

    def _identify(self, name: str | None) -> Any:
        """Values that change with a model's entry or files, which are not read."""
        if name is None or (provider := self._models.get(name)) is None:
            return name
        files: list[str] = []
        with suppress(OSError):  # the worker reports it
            files = [file_identity(path) for path in provider.weights()[1]]
        return [provider.name_in_config, provider.model_dump(mode="json"), files]


class ReuseForecast:
    """Says which stages will take a kept result. Jobs are asked for in the order in which they will
    run: what an earlier one makes, a later one takes. So it is made anew for each queue."""

    def __init__(self, config: Config) -> None:
        self._requests = JobRequests(config)
        self._store = ResultStore(config.kept_results)
        self._is_on = config.retention.reuse_bytes > 0
        self._expected: set[str] = set()
        self._in_store = cache(self._store.has_request)

    def of_row(self, row: Mapping[str, Any]) -> list[str]:
        """The reuse of each stage of a job, from a row as `JobRequests.of_row` takes it: `all` for
        a whole result, the name of a part, or "" for a stage that will be computed."""
        return self._of(row["stages"], self._requests.of_row(row))

    def of(
        self, stages: Sequence[Mapping[str, Any]], inputs: Sequence[str], stem: str, tags: list[str]
    ) -> list[str]:
        """The same, from what `JobRequests.of` takes."""
        return self._of(stages, self._requests.of(stages, inputs, stem, tags))

    def _of(self, stages: Sequence[Mapping[str, Any]], requests: Sequence[Request]) -> list[str]:
        if not self._is_on:
            return [""] * len(stages)
        reuse = [
            ALL if self._will_be_there(request.whole)
            else _part_name(spec) if self._will_be_there(request.part)
            else ""
            for spec, request in zip(stages, requests, strict=True)
        ]  # fmt: skip
        self._expected.update(*((request.whole, request.part) for request in requests))
        return reuse

    def _will_be_there(self, request: str) -> bool:
        return request != "" and (request in self._expected or self._in_store(request))


def inputs_of(
    image_sha256: str | None,
    files: Iterable[Mapping[str, Any]] | None,
    stages: Iterable[Mapping[str, Any]],
) -> list[str]:
    """The hashes of a job's inputs, from the ledger's columns of its drop; none if its image was
    not hashed."""
    if image_sha256 is None:
        return []
    return [image_sha256, *(file["sha256"] for file in companions.of_job(files, stages))]


def _part_name(spec: Mapping[str, Any]) -> str:
    stage = registry.valid_stage(spec["type"], spec["params"])
    return "" if stage is None else stage.part


def _part_of(spec: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any] | None:
    """The part of a stage's work that is kept, by all that decides it; None if there is none."""
    stage = registry.valid_stage(spec["type"], spec["params"])
    if stage is None or not stage.part:
        return None
    return {"part": stage.part} | {name: params.get(name) for name in sorted(stage.part_params)}


def _hash(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
