"""A data folder as after years of use, with many ended and some waiting jobs, made in minutes.

SQLite itself makes the rows, in the schema that `Ledger` creates; the indexes are created again at
the end. Ids are random, like real ones, so that neighbours in time are far apart in their index.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dna_pipeline.ledger.sqlite import sqlite_module
from dna_pipeline.ledger.store import Ledger

INBOXES = 10
ENDED_EVERY_S = 30
"""Seconds between the ends of two jobs; the last job ended just now."""

_CONFIG = """\
version: 1
paths: {data: data, outbox: outbox}
models:
  key: {provider: border_key}
  # Models that the jobs name; this provider needs no weights, so no job waits for them.
  sd15: {provider: border_key}
  triposr: {provider: border_key}
pipelines:
  cut: [{remove_background: {model: key}}]
inboxes:
"""

_ENVIRONMENT = {
    "dna_pipeline": "1.0", "python": "3.11.7", "platform": "Linux-6.1-x86_64", "torch": "2.9.1",
    "diffusers": "0.36.0", "transformers": "4.57.3", "numpy": "2.3.5", "pillow": "12.0.0",
    "cuda": "12.8", "gpu": "NVIDIA H100 80GB HBM3", "driver": "570.124", "tf32": False,
}  # fmt: skip
_MODEL = {"name": "sd15", "path": "models/v1-5-pruned-emaonly.safetensors", "sha256": "5" * 64}
_PARAMS = {
    "prompt": "a small robot, studio light, plain background, high detail, clay render",
    "negative_prompt": "blurry, text, watermark", "steps": 30, "strength": 0.55,
    "guidance_scale": 7.5, "sampler": "dpmpp_2m_karras", "seed": 1234567890, "max_size": 768,
    "model": "sd15",
}  # fmt: skip
_STAGES = [
    {"id": "restyle", "type": "img2img", "params": _PARAMS},
    {"id": "mesh", "type": "triposr", "params": {"resolution": 256, "model": "triposr"}},
]
_STAT = {"image.png": {"size": 2345678, "mtime_ns": 1764000000000000000, "inode": 1, "device": 1}}
_ERROR = {
    "code": "image_unreadable", "message": "The image cannot be read.", "retryable": False,
    "detail": "image.png: cannot identify image file", "hint": "Export it again.",
}  # fmt: skip

_NUMBERS = """WITH RECURSIVE numbers(n) AS
    (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :jobs)"""

# The newest jobs are still open; of the others 1 in 50 failed and 1 in 100 was cancelled.
_DROPS = f"""{_NUMBERS}
    INSERT INTO drops SELECT lower(hex(randomblob(16))), 'inbox' || (n / 3 % {INBOXES}),
        CASE WHEN n < :ended THEN 'gone' ELSE 'claimed' END, 'archive', x'', CAST(:claim AS BLOB),
        CAST('image.png' AS BLOB), NULL, :stat, NULL, lower(hex(randomblob(32))), 2345678, 1024,
        1024, NULL, {{created}}, NULL, NULL
    FROM numbers"""
_JOBS = """INSERT INTO jobs (id, drop_id, inbox, folder, name, stem, pipeline, priority, status,
        hold, hold_detail, not_before, stages, models, tags, meta, attempt, crashes, interruptions,
        cancel_requested, error, publish, publish_name, manifest_sha256, created_at, started_at,
        finished_at)
    SELECT lower(hex(randomblob(16))), id, inbox, '', 'image-' || n || '.png', 'image-' || n, 'cut',
        n % 4, status, CASE WHEN future THEN 'not_before' END,
        CASE WHEN future THEN strftime('starts at %Y-%m-%d %H:%M UTC', later) END,
        CASE WHEN future THEN later END, :stages, 'key', '[]', '{}', done, 0, 0, 0,
        CASE WHEN status = 'failed' THEN :error END, CASE WHEN done THEN 'done' END,
        CASE WHEN done THEN inbox || '/image-' || n END,
        CASE WHEN done THEN lower(hex(randomblob(32))) END, created_at,
        CASE WHEN done THEN created_at END, CASE WHEN done THEN created_at END
    FROM (SELECT id, inbox, created_at, rowid - 1 AS n, rowid <= :ended AS done,
            rowid > :ended + :queued AS future,
            CASE WHEN rowid > :ended THEN 'queued' WHEN rowid % 50 = 0 THEN 'failed'
                WHEN rowid % 100 = 1 THEN 'cancelled' ELSE 'completed' END AS status,
            strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', '+' || (rowid % 8760 + 1) || ' hours') AS later
        FROM drops) ORDER BY n"""
_EVENTS = """INSERT INTO events (job_id, at, kind, data)
    SELECT jobs.id, created_at, k.value,
        CASE k.value WHEN 'queued' THEN '{"inbox": "' || inbox || '", "name": "' || name || '"}'
            WHEN 'started' THEN '{"attempt": 1}' ELSE '{}' END
    FROM jobs, json_each(CASE WHEN status = 'queued' THEN '["queued"]'
        ELSE '["queued", "started", "' || status || '"]' END) AS k ORDER BY seq, k.key"""
_RUNS = """INSERT INTO stage_runs (job_id, stage_id, type, provider, model, params, device, dtype,
        batch_size, attempt, seconds, warnings, environment, finished_at)
    SELECT jobs.id, k.value ->> 'id', k.value ->> 'type', 'diffusers', :model,
        k.value -> 'params', 'cuda', 'float16', 1, 1, 2.5, '[]', :environment, finished_at
    FROM jobs, json_each(stages) AS k WHERE status = 'completed' ORDER BY seq, k.key"""
_FILES = """INSERT INTO artifacts (job_id, stage_id, path, role, media_type, bytes, sha256, facts)
    SELECT job_id, stage_id, stage_runs.type || '-' || k.value, k.value, 'image/png', 1234567,
        lower(hex(randomblob(32))), '{"width": 768, "height": 768}'
    FROM stage_runs, json_each(CASE stage_runs.type WHEN 'img2img' THEN '["image"]'
        ELSE '["mesh", "preview"]' END) AS k ORDER BY stage_runs.id, k.key"""


@dataclass(frozen=True, slots=True)
class History:
    """Numbers of jobs in a ledger: all, those that wait to run, and those that wait for a time."""

    jobs: int
    queued: int = 0
    future: int = 0

    @property
    def ended(self) -> int:
        return max(0, self.jobs - self.queued - self.future)


def data_folder(root: Path, history: History, kept_files: int = 0) -> Path:
    """Make a `pipeline.yaml` in `root`, its inboxes and its ledger; give the file's path.

    Args:
        kept_files: number of images in the inboxes, which are kept there and ignored.
    """
    config = root / "pipeline.yaml"
    for i in range(INBOXES):
        (root / "in" / str(i)).mkdir(parents=True)
    (root / "outbox").mkdir()
    for number in range(kept_files):
        (root / "in" / str(number % INBOXES) / f"image-{number}.png").write_bytes(b"\x89PNG")
    more = ", originals: keep, existing: ignore" if kept_files else ""
    lines = [
        f"  - {{name: inbox{i}, path: in/{i}, pipeline: cut, watch: native{more}}}\n"
        for i in range(INBOXES)
    ]
    config.write_text(_CONFIG + "".join(lines))
    fill(root / "data" / "ledger.db", history)
    return config


def fill(path: Path, history: History) -> None:
    """Make a ledger with that history at `path`, where no file may be."""
    Ledger(path).close()
    connection: Any = sqlite_module().connect(str(path), isolation_level=None)
    for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-500000"):
        connection.execute(f"PRAGMA {pragma}")
    indexes = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    ).fetchall()
    connection.execute("BEGIN")
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}")
    _insert(connection, path, history)
    for _, sql in indexes:
        connection.execute(sql)
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()


def _insert(connection: Any, path: Path, history: History) -> None:
    if not history.jobs:
        return
    created = f"""strftime('%Y-%m-%dT%H:%M:%f000Z', 'now',
        '-' || (max(:ended - n, 0) * {ENDED_EVERY_S}) || ' seconds')"""
    claim = (
        path.parent / "source"
    )  # one claim for all jobs, since a job with a missing claim would be held
    claim.mkdir(exist_ok=True)
    values = {
        "jobs": history.jobs, "ended": history.ended, "queued": history.queued,
        "claim": str(claim), "stat": json.dumps(_STAT),
        "stages": json.dumps(_STAGES), "error": json.dumps(_ERROR), "model": json.dumps(_MODEL),
        "environment": json.dumps(_ENVIRONMENT),
    }  # fmt: skip
    for sql in (_DROPS.format(created=created), _JOBS, _EVENTS, _RUNS, _FILES):
        used = {name: value for name, value in values.items() if f":{name}" in sql}
        connection.execute(sql, used)
