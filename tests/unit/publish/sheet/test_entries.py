"""Entries of a contact sheet, from what the ledger has of their jobs."""

from __future__ import annotations

from typing import Any, cast

from dna_pipeline.ledger.queries import Queries
from dna_pipeline.publish.sheet import entries, pages


def job(job_id: str, **values: Any) -> dict[str, Any]:
    return {
        "id": job_id, "name": f"{job_id}.png", "status": "completed", "image": f"{job_id}.png",
        "sha256": "0" * 64, "publish": "done", "publish_name": f"in/{job_id}", "files": [],
        "error": None, "stages": [], "pipeline": "paint", "priority": 0, "tags": [], "meta": {},
        "started_at": None, "finished_at": None, **values,
    }  # fmt: skip


class Ledger:
    """Jobs as `Queries` gives them."""

    def __init__(self, *jobs: dict[str, Any]) -> None:
        self.jobs = {job["id"]: job for job in jobs}

    def sheet_jobs(self, ids: list[str]) -> dict[str, dict[str, Any]]:
        return {name: self.jobs[name] for name in ids}

    def warnings(self, ids: list[str]) -> dict[str, list[str]]:
        return {}


def test_a_job_with_a_wrong_sidecar_makes_no_parameter_differ() -> None:
    def painted(seed: int) -> list[dict[str, Any]]:
        return [{"id": "img2img", "type": "img2img", "params": {"steps": 20, "seed": seed}}]

    error = {"code": "sidecar_invalid", "message": "", "detail": "", "hint": "", "retryable": False}
    ledger = Ledger(
        job("a", stages=painted(1)), job("b", stages=painted(2)),
        job("c", status="failed", error=error),
    )  # fmt: skip
    listed = entries.of_jobs(cast("Queries", ledger), ["a", "b", "c"])
    assert listed[2].params == {}
    assert "seed: 1" in listed[0].sidecar
    assert not entries.of_jobs(cast("Queries", ledger), ["a"], has_sidecars=False)[0].sidecar
    assert pages.common_params(listed) == {"pipeline": "paint", "img2img.steps": 20}
