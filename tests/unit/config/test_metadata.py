"""The key `metadata` in all its places, and the section `c2pa`."""

from __future__ import annotations

from pathlib import Path

import pytest

from dna_pipeline.base.errors import ConfigError, ParameterInvalid
from dna_pipeline.config.batch import combinations, rows_of_table
from dna_pipeline.config.schema import Signing
from dna_pipeline.config.sidecar import parse_sidecar, resolve
from dna_pipeline.config.tables import parse_table

FILE = """\
version: 1
models:
  sd15: {provider: diffusers, path: sd}
  matte: {provider: rembg}
pipelines:
  both: [{img2img: {}}, {remove_background: {}}]
  own:  [{img2img: {metadata: none}}, {remove_background: {}}]
inboxes:
  - {path: in, pipeline: both}
  - {path: inner, pipeline: both, metadata: marks}
  - {path: mine, pipeline: own}
  - {path: defaulted, pipeline: own, metadata: marks, defaults: {img2img: {metadata: full}}}
"""


@pytest.fixture
def values(read):
    """Resolve a sidecar's text for an inbox; the value of `metadata` of each stage."""

    def values(text: str | None, *, inbox: int = 0, top: str = "") -> list[str]:
        config = read(FILE + top)
        document = None if text is None else parse_sidecar(text.encode())
        spec = resolve(config, config.inboxes[inbox], document, lambda: 0)
        return [stage.params["metadata"] for stage in spec.stages]

    return values


def test_the_nearest_place_decides(values):
    assert values(None) == ["full", "full"]
    assert values(None, top="metadata: none\n") == ["none", "none"]
    assert values(None, inbox=1, top="metadata: none\n") == ["marks", "marks"]
    assert values(None, inbox=2, top="metadata: marks\n") == ["none", "marks"]
    assert values(None, inbox=3) == ["full", "marks"]
    assert values("metadata: none", inbox=3) == ["none", "none"]
    assert values("metadata: none\nimg2img: {metadata: marks}") == ["marks", "none"]


def test_a_column_and_an_axis_of_the_matrix(values, read):
    config = read(FILE)
    table = b"image,metadata,img2img.metadata\na.png,marks,\nb.png,,none\n"
    content = parse_table(config.pipelines, "t.csv", table)
    rows = rows_of_table(content.rows, None)
    specs = [resolve(config, config.inboxes[0], row.document, lambda: 0) for row in rows]
    found = [[stage.params["metadata"] for stage in spec.stages] for spec in specs]
    assert found == [["marks", "marks"], ["none", "full"]]
    documents = combinations(parse_sidecar(b"matrix: {metadata: [full, none]}"))
    specs = [resolve(config, config.inboxes[0], each, lambda: 0) for each in documents]
    assert [spec.stages[0].params["metadata"] for spec in specs] == ["full", "none"]


def test_a_wrong_value_is_told_with_its_line(values, read):
    with pytest.raises(ParameterInvalid, match=r"line 1: metadata: should be .*full.*marks.*none"):
        values("metadata: all")
    with pytest.raises(ConfigError, match=r"line 13: metadata: should be"):
        read(FILE + "metadata: yes\n")


def test_jobs_of_before_the_key_count_as_the_same(read):
    """So that an update of the program repeats no jobs; any other value is other work."""
    config = read(FILE)
    job = resolve(config, config.inboxes[0], None, lambda: 0)
    assert all("metadata" not in stage["params"] for stage in job.identity()["stages"])
    other = resolve(config, config.inboxes[0], parse_sidecar(b"metadata: marks"), lambda: 0)
    assert all(stage["params"]["metadata"] == "marks" for stage in other.identity()["stages"])


def test_the_certificate_lies_beside_pipeline_yaml(read, tmp_path: Path):
    assert read(FILE).signing is None
    config = read(FILE + "c2pa: {certificate: c/studio.pem, key: /keys/studio.key}\n")
    expected = Signing(tmp_path / "c/studio.pem", Path("/keys/studio.key").absolute())
    assert config.signing == expected
    assert (expected.algorithm, expected.timestamp_url) == ("es256", None)


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ("{certificate: a.pem}", "the key 'c2pa.key' is missing"),
        ("{certificate: a, key: b, algorithm: rsa}", "c2pa.algorithm: should be"),
        ("{certificate: a, key: b, timestamp_url: 'ftp://x'}", "c2pa.timestamp_url: should"),
        ("{certificate: a, key: b, password: c}", "unknown key 'c2pa.password'"),
        ("on", "c2pa: should be"),
    ],
)
def test_a_wrong_section(read, section: str, complaint: str):
    with pytest.raises(ConfigError, match=complaint):
        read(f"{FILE}c2pa: {section}\n")
