"""A status as a daemon writes it, for tests of what shows it."""

from __future__ import annotations

from typing import Any

HASH = "0d3a987ede9c4ab8b78e21918536ddfb"


def ended(name: str, status: str = "completed", **more: Any) -> dict[str, Any]:
    """An entry of `recent`."""
    stem = name.rpartition(".")[0]
    folder = f"photos/{'failed/' if status == 'failed' else ''}{stem}-{HASH[:8]}"
    return {
        "job": f"{stem}{HASH}"[:32], "inbox": "photos", "name": name, "status": status,
        "folder": folder, "code": None, "finished_at": "2026-11-29T16:55:33.988898Z",
        "message": "", "detail": "", "hint": "", "warnings": 0,
    } | more  # fmt: skip


def running_job(**more: Any) -> dict[str, Any]:
    """An entry of `workers[].jobs`."""
    return {
        "job": HASH, "inbox": "photos", "name": "rocket.png", "attempt": 1, "worker": "local-1",
        "stage": "img2img", "phase": "running", "step": 12, "steps": 45, "fraction": 0.26,
        "eta_s": 65.0,
    } | more  # fmt: skip


def busy_status() -> dict[str, Any]:
    """A daemon with a running job, a batch, a hold, a file that waits, results and failures."""
    failure: dict[str, Any] = {
        "status": "failed", "code": "sidecar_invalid",
        "message": "The YAML beside the image cannot be used as it is; correct it and retry.",
        "detail": "line 1: unknown key 'img2img.stepz'; did you mean 'steps'?",
    }  # fmt: skip
    job = running_job()
    worker = {"device": "cpu", "dtype": "float32", "gpu": None}
    return {
        "daemon": {"pid": 7, "host": "vm", "since": "2026-11-29T16:55:31Z", **worker,
                   "memory_bytes": 1 << 30, "memory_total_bytes": 24 << 30},
        "queue": {"queued": {"photos": 4, "night": 3}, "running": {"photos": 1},
                  "completed": {"photos": 1}, "failed": {"photos": 2}},
        "progress": [
            {"inbox": "photos", "done": 2, "total": 7, "eta_s": 720.0},
            {"inbox": "night", "done": 0, "total": 3, "eta_s": None},
        ],
        "running": job, "workers": [{"worker": "local-1", **worker, "jobs": [job]}],
        "runnable": 4, "queue_eta_s": 720.0, "jobs_per_hour": 38,
        "batches": [{
            "batch": HASH, "inbox": "photos", "name": "grid.csv", "folder": "photos/grid-0fdc0e77",
            "rows": 6, "wrong": 1, "jobs": {"queued": 3, "completed": 1, "failed": 1},
            "paused": None, "eta_s": 700.0,
        }],
        "holds": [{"code": "hours", "detail": "inbox 'night' rests until 2026-11-30 03:00; its "
                   "hours are 03:00-04:00", "jobs": 3}],
        "waiting": [{"inbox": "photos", "file": "torn.png", "reason": "does not decode yet"}],
        "waiting_total": 1,
        "recent": [
            ended("赤い椅子の写真_最終版.png", warnings=1),
            ended("a clay figurine with a very long file name that nobody types v2.png"),
            ended("chair_02.png", **failure), ended("chair_03.png", **failure),
        ],
    }  # fmt: skip


def _loaded(name: str) -> dict[str, Any]:
    return {"name": name, "state": "loaded", "device": "cuda:0", "since": "2026-12-01T22:00:00Z",
            "bytes": None}  # fmt: skip


def two_workers() -> dict[str, Any]:
    """A status with a worker that runs a job and one whose device is missing."""
    job = running_job(worker="w1-1")
    facts: dict[str, Any] = {"dtype": "float16", "gpu": "H200", "memory_bytes": 12 << 30,
                             "memory_total_bytes": 139 << 30}  # fmt: skip
    workers = [
        {"worker": "w1-1", "device": "cuda:0", "state": "working",
         "models": [_loaded("matte"), _loaded("sd15")],
         "problem": None, "jobs": [job], **facts},
        {"worker": "w2-3", "device": "cuda:1", "state": "lost", "models": [], "dtype": None,
         "gpu": None, "problem": "cuda:1 was asked for, but torch sees no such device", "jobs": []},
    ]  # fmt: skip
    delayed = {"job": HASH, "models": ["anime"], "passed_s": 60.0, "limit_s": 300.0,
               "first": ["matte", "sd15"]}  # fmt: skip
    return busy_status() | {"running_jobs": [job], "workers": workers, "delayed": delayed}
