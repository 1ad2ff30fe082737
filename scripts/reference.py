"""Writes docs/reference.md and the JSON Schemas in schemas/ from the models that check the files.

    python scripts/reference.py            # after a key, an option or a description has changed

The texts are the descriptions at the fields of the models, and the help of commands.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer.main
from environment import escape_unencodable

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from dna_pipeline.config.file_parts import (  # noqa: E402
    PathsSpec,
    RaySpec,
    RetentionSpec,
    RuntimeSpec,
    ServeSpec,
    SigningSpec,
)
from dna_pipeline.config.json_schema import words  # noqa: E402
from dna_pipeline.config.json_schema.draft7 import Schema  # noqa: E402
from dna_pipeline.config.json_schema.pipeline_file import (  # noqa: E402
    CHECKPOINTS,
    provider_key,
    stage_id_key,
)
from dna_pipeline.config.json_schema.sections import section, stage_section  # noqa: E402
from dna_pipeline.config.receivers import ReceiverSpec, SecretSpec  # noqa: E402
from dna_pipeline.config.schema import InboxSpec, PipelineFile, SidecarHead  # noqa: E402
from dna_pipeline.interfaces.cli.main import app  # noqa: E402
from dna_pipeline.operations.editor_schemas import KINDS, schema_text  # noqa: E402
from dna_pipeline.stages import registry  # noqa: E402

INTRODUCTION = """\
# Reference

All keys of all files, and all commands. `scripts/reference.py` writes this page from the program:
to change a text, change the description at its field. What the keys are good for is in
[sidecars.md](sidecars.md) and on the other pages here.

Values are written as in YAML 1.2: `no` and `22:00` are text, `6e-1` is a number. A key in
parentheses is another name of the one before it. Editors show the same texts, and mark what is
wrong while it is typed: see [editors.md](editors.md).
"""

MODELS = f"""\
Each entry is a name of your choice with the key `provider`, which decides about the other keys. The
name `"*"` has a path: {CHECKPOINTS}.
Paths are relative to `paths.data`.
"""

PIPELINES = """\
Each entry is a name of your choice with a list of stages. A stage is a mapping with one key, its
type; its value has the parameters that are listed [below](#stages), and `id`:
"""

SECRETS = """\
A secret does not stand in pipeline.yaml itself. `secret`, and `url` where the address is to be kept
secret too, say where it is read ([notify.md](notify.md)):
"""

SIDECARS = """\
Beside these keys, a sidecar has one for each stage, by its type or its `id`, with the parameters
that are listed [below](#stages). A job file (a YAML with `image` or `images`) and the YAML beside a
table have the same keys, and so have a table's columns: `pipeline`, `priority`, `img2img.strength`,
`meta.asset` ([tables.md](tables.md)). A key without a value counts as left out.
"""

STAGES = """\
Parameters of a stage may be set in a sidecar, in an inbox's `defaults` and in the pipeline; the
first of these that sets one counts, else the default here.
"""

COMMANDS = """\
`--config FILE` stands before the command. Each command says the same with `--help`.
"""


def main() -> None:
    escape_unencodable()
    for path, text in outputs().items():
        path.write_text(text, encoding="utf-8", newline="\n")
        print(path.relative_to(ROOT))


def outputs() -> dict[Path, str]:
    """The files that this script writes, with their texts."""
    schemas = {ROOT / "schemas" / f"{kind}.schema.json": schema_text(kind) for kind in KINDS}
    return {ROOT / "docs" / "reference.md": reference(), **schemas}


def reference() -> str:
    """The page as Markdown."""
    parts = [INTRODUCTION, *_pipeline_file(), *_sidecars(), *_stages(), *_commands()]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _pipeline_file() -> Iterator[str]:
    yield "## pipeline.yaml"
    yield _table(section(PipelineFile)[0])
    sections = {
        "paths": PathsSpec,
        "runtime": RuntimeSpec,
        "runtime.ray": RaySpec,
        "retention": RetentionSpec,
        "c2pa": SigningSpec,
    }
    for key, model in sections.items():
        yield f"### {key}"
        yield _table(section(model)[0])
    yield "### models"
    yield MODELS
    yield from _providers()
    yield "### pipelines"
    yield PIPELINES
    yield _table({"properties": {"id": stage_id_key("its type")}})
    yield "### inboxes"
    yield _table(section(InboxSpec)[0])
    yield "### notify"
    yield _table(section(ReceiverSpec)[0])
    yield "#### url and secret"
    yield SECRETS
    yield _table(section(SecretSpec)[0])
    yield "### serve"
    yield _table(section(ServeSpec)[0])


def _providers() -> Iterator[str]:
    yield _table({"properties": {"provider": provider_key()}, "required": ["provider"]})
    for name in registry.PROVIDERS:
        schema, _ = section(registry.provider_class(name))
        yield f"#### provider: {name}"
        yield f"{schema['description']}"
        yield _table(schema)


def _sidecars() -> Iterator[str]:
    yield "## Sidecars"
    yield SIDECARS
    yield _table(section(SidecarHead)[0])


def _stages() -> Iterator[str]:
    yield "## Stages"
    yield STAGES
    for name in registry.STAGES:
        stage = registry.stage_class(name)
        schema, definitions = stage_section(stage, name)
        own = {key: each for key, each in schema["properties"].items() if key not in stage.aliases}
        yield f"### {name}"
        yield schema["description"]
        yield _table({"properties": own})
        for nested, each in definitions.items():
            if "properties" in each:
                yield f"#### Items of {nested}"
                yield _table(each)


def _table(schema: Schema) -> str:
    """The keys of a section; one with keys of its own has no values here."""
    rows = ["| key | values | default | |", "|---|---|---|---|"]
    required: list[str] = schema.get("required", [])
    for key, each in schema["properties"].items():
        default = "required" if key in required else _default(each)
        cells = [_key(key, each), _values(each), default, each.get("description", "")]
        rows.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
    return "\n".join(rows)


def _key(key: str, schema: Mapping[str, Any]) -> str:
    aliases = ", ".join(f"`{alias}`" for alias in schema.get(words.ALIASES, []))
    return f"`{key}`" + (f" ({aliases})" if aliases else "")


def _values(schema: Mapping[str, Any]) -> str:
    unit = f", in {schema[words.UNIT]}" if words.UNIT in schema else ""
    return words.values(schema) + unit


def _default(schema: Mapping[str, Any]) -> str:
    default = words.default(schema)
    if default is None or words.DEFAULT_WORDS in schema:
        return default or ""
    return f"`{default}`"


def _cell(text: str) -> str:
    text = text.replace("|", "\\|")
    return text if "`" in text else text.replace("<", "&lt;")


def _commands() -> Iterator[str]:
    yield "## Commands"
    yield COMMANDS
    program: Any = typer.main.get_command(app)
    yield _options(program)
    for path, command in _walk(program, ()):
        yield f"### {' '.join(path)}"
        yield " ".join((command.help or "").split())
        if table := _options(command):
            yield table


def _walk(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The commands of a group and of the groups in it, with the words that call them."""
    for name, command in group.commands.items():
        is_group = hasattr(command, "commands")
        if not is_group or command.invoke_without_command:
            yield (*path, name), command
        if is_group:
            yield from _walk(command, (*path, name))


def _options(command: Any) -> str:
    rows = [
        f"| {_names(parameter)} | {_cell(parameter.help or '')} |"
        for parameter in command.params
        if not getattr(parameter, "hidden", False) and parameter.name != "help"
    ]
    return "\n".join(["| option | |", "|---|---|", *rows]) if rows else ""


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_cell(parameter.metavar or parameter.name.upper())}`"
    value = "" if parameter.is_flag else f" {parameter.metavar or '…'}"
    return f"`{_cell(', '.join([*parameter.opts, *parameter.secondary_opts]) + value)}`"


if __name__ == "__main__":
    main()
