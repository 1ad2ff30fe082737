from __future__ import annotations

import re
from pathlib import Path

import pytest

from dna_pipeline.config.schema import InboxSpec, SidecarHead
from dna_pipeline.stages import registry
from tests.conftest import load_script

ROOT = Path(__file__).parents[3]
OUTPUTS: dict[Path, str] = load_script("reference").outputs()


@pytest.mark.parametrize("path", OUTPUTS, ids=lambda path: path.name)
def test_what_is_committed_is_current(path: Path):
    assert path.read_text(encoding="utf-8") == OUTPUTS[path], "run scripts/reference.py"


def test_every_key_and_every_alias_has_its_row():
    page = OUTPUTS[ROOT / "docs" / "reference.md"]
    models = [InboxSpec, SidecarHead, *map(registry.stage_class, registry.STAGES)]
    models += map(registry.provider_class, registry.PROVIDERS)
    keys = {key for model in models for key in model.model_fields}
    keys |= {alias for name in registry.STAGES for alias in registry.stage_class(name).aliases}
    first_cells = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| ")]
    listed = {key for cell in first_cells for key in re.findall(r"`([^`]+)`", cell)}
    assert keys <= listed


def test_no_cell_breaks_its_table():
    page = OUTPUTS[ROOT / "docs" / "reference.md"]
    widths: list[int] = []
    for line in page.splitlines():
        if not line.startswith("|"):
            widths = []
            continue
        widths.append(len(re.findall(r"(?<!\\)\|", line)))
        assert widths[0] == widths[-1], line
