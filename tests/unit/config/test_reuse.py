"""The key `reuse` in all its places, and the limits of what is kept."""

from __future__ import annotations

import pytest

from dna_pipeline.base.errors import ConfigError, ParameterInvalid
from dna_pipeline.config.batch import rows_of_table
from dna_pipeline.config.recipe import as_sidecar
from dna_pipeline.config.sidecar import parse_sidecar, resolve
from dna_pipeline.config.tables import parse_table

FILE = """\
version: 1
models:
  sd15: {provider: diffusers, path: sd}
  matte: {provider: rembg}
pipelines:
  both: [{img2img: {}}, {remove_background: {}}]
  own:  [{img2img: {reuse: off}}, {remove_background: {}}]
inboxes:
  - {path: in, pipeline: both}
  - {path: inner, pipeline: both, reuse: off, metadata: marks}
  - {path: mine, pipeline: own}
"""


@pytest.fixture
def values(read):
    """Resolve a sidecar's text for an inbox; the value of `reuse` of each stage."""

    def values(text: str | None, *, inbox: int = 0, top: str = "") -> list[str]:
        config = read(FILE + top)
        document = None if text is None else parse_sidecar(text.encode())
        spec = resolve(config, config.inboxes[inbox], document, lambda: 0)
        return [stage.params["reuse"] for stage in spec.stages]

    return values


def test_the_nearest_place_decides(values):
    assert values(None) == ["on", "on"]
    assert values(None, top="reuse: off\n") == ["off", "off"]
    assert values(None, inbox=1) == ["off", "off"]
    assert values(None, inbox=2) == ["off", "on"]
    assert values("reuse: on", inbox=1) == ["on", "on"]
    assert values("reuse: off\nimg2img: {reuse: on}") == ["on", "off"]


def test_columns(read):
    config = read(FILE)
    table = b"image,reuse,img2img.reuse\na.png,off,\nb.png,,off\n"
    content = parse_table(config.pipelines, "t.csv", table)
    rows = rows_of_table(content.rows, None)
    specs = [resolve(config, config.inboxes[0], row.document, lambda: 0) for row in rows]
    found = [[stage.params["reuse"] for stage in spec.stages] for spec in specs]
    assert found == [["off", "off"], ["off", "on"]]


def test_a_wrong_value_is_told_with_its_line(values, read):
    with pytest.raises(ParameterInvalid, match=r"line 1: reuse: should be .*on.*off"):
        values("reuse: never")
    with pytest.raises(ConfigError, match=r"line 12: reuse: should be"):
        read(FILE + "reuse: maybe\n")


def test_it_makes_no_other_job(read):
    """It decides how a result comes about: what was done is skipped whatever it says."""
    config = read(FILE)
    jobs = [
        resolve(config, config.inboxes[0], parse_sidecar(text), lambda: 0)
        for text in (b"", b"reuse: off")
    ]
    assert jobs[0].identity() == jobs[1].identity()
    assert "reuse" not in as_sidecar(jobs[1].stage_values)


def test_limits(read):
    retention = read(FILE).retention
    assert (retention.reuse_days, retention.reuse_bytes) == (30, 10 << 30)
    retention = read(FILE + "retention: {reuse_days: 0.5, reuse_bytes: 0}\n").retention
    assert (retention.reuse_days, retention.reuse_bytes) == (0.5, 0)
    for wrong in ("reuse_days: 0", "reuse_bytes: -1", "reuse_bytes: 1.5"):
        with pytest.raises(ConfigError, match="reuse_"):
            read(FILE + f"retention: {{{wrong}}}\n")
