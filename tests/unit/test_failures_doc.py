"""docs/failures.md: each code has its entry, and what it quotes is what the program says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dna_pipeline.base.errors import ConfigError, JobError
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.config.sidecar import parse_sidecar, resolve
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.submit import Submitter, document_from_options

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "failures.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"```(yaml|console)\n(.*?)```\n\n(?:```text\n(.*?)```)?", re.DOTALL)
EXAMPLES = [(kind, text, said.strip()) for kind, text, said in EXAMPLE.findall(DOC)]


def codes(kind: type[JobError]) -> Iterator[str]:
    for each in kind.__subclasses__():
        yield each.code
        yield from codes(each)


def test_each_code_has_an_entry():
    entries = set(re.findall(r"^### `(\w+)`\n\n\S", DOC, re.MULTILINE))
    assert set(codes(JobError)) - entries == set()


def test_there_are_examples_enough():
    assert len(EXAMPLES) > 20
    assert all(said for _, _, said in EXAMPLES)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """That of `dna-pipeline init`, its first inbox with all stages."""
    template = ROOT / "dna_pipeline/interfaces/cli/templates" / "pipeline.yaml"
    (tmp_path / "pipeline.yaml").write_bytes(template.read_bytes())
    config = load_config(tmp_path / "pipeline.yaml", {})
    whole = config.pipelines["restyle_to_mesh"]
    inbox = replace(config.inboxes[0], pipeline=whole.name)
    return replace(config, inboxes=(inbox,), pipelines={whole.name: whole, **config.pipelines})


@pytest.fixture
def ledger(config: Config) -> Iterator[Ledger]:
    config.data.mkdir()
    ledger = Ledger(config.ledger_path)
    yield ledger
    ledger.close()


@pytest.mark.parametrize(("kind", "text", "said"), EXAMPLES)
def test_what_is_quoted_is_what_the_program_says(
    config: Config, ledger: Ledger, kind: str, text: str, said: str
):
    if kind == "yaml":
        with pytest.raises(JobError) as caught:
            resolve(config, config.inboxes[0], parse_sidecar(text.encode()), lambda: 1)
        message = f"{caught.value.detail} ({caught.value.code})"
    else:
        _, command, _, *options = shlex.split(text)
        assert command == "submit"
        settings = [setting for setting in options if setting != "--set"]
        with pytest.raises(ConfigError) as refused:
            Submitter(config, ledger, document_from_options(None, settings, config.pipelines))
        message = str(refused.value)
    assert message.split() == said.split()
