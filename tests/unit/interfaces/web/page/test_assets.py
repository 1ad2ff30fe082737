"""The files of others that the page has are those that their README names."""

import hashlib
import re
from pathlib import Path

from dna_pipeline.interfaces.web.page.rendering import ASSETS
from dna_pipeline.operations.serving.result_view import viewer_script

MAX_BYTES = 1_500_000


def test_the_decoders_are_the_listed_ones():
    folder = ASSETS / "decoders"
    listed = re.findall(r"\| (\S+) \|.*\| ([0-9a-f]{64}) \|", (folder / "README.md").read_text())
    assert len(listed) == 3
    for name, sha256 in listed:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256
    assert {path.name for path in folder.iterdir()} - dict(listed).keys() == {
        "README.md", "draco.LICENSE.txt", "meshoptimizer.LICENSE.txt",
    }  # fmt: skip


def test_the_page_is_small():
    files = [path for path in Path(ASSETS).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in [*files, viewer_script()]) < MAX_BYTES
