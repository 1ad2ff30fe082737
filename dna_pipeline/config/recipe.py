"""Sidecars that ask for what a result was made with.

The parameters of a result are resolved: seeds are drawn, and prompts have no fields and choices any
more. So what would be one in a sidecar is escaped, and the same image with the same models gives
the same result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config import yaml12
from dna_pipeline.config.image_metadata import of_a1111
from dna_pipeline.config.yaml12 import is_mapping
from dna_pipeline.stages import registry
from dna_pipeline.stages.base import NOT_OF_RESULT

_LEFT_OUT = NOT_OF_RESULT | {"from_metadata"}
"""Parameters that say where others, or the result, come from: those are there already."""
_NO_TEXT = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
"""Words that some readers of YAML take for no text."""
_PLAIN_KEY = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


def as_sidecar(
    stages: Iterable[Mapping[str, Any]],
    *,
    head: Mapping[str, Any] | None = None,
    remarks: Sequence[str] = (),
) -> str:
    """The text of a sidecar for stages with these parameters.

    Args:
        stages: each with `id`, `type` and `params`, as ledger, manifests and files have them.
        head: further keys, such as `pipeline`; those without a value are left out.
        remarks: lines of comments at the top.
    """
    lines = [f"# {line}" for remark in remarks for line in remark.splitlines()]
    lines += [f"{_key(key)}: {_flow(value)}" for key, value in (head or {}).items() if value]
    for stage in stages:
        params = _escaped(stage)
        lines.append(f"{_key(stage['id'])}:{'' if params else ' {}'}")
        lines += [f"  {_key(name)}: {_flow(value)}" for name, value in params.items()]
    return "\n".join(lines) + "\n"


def a1111_stages(text: str) -> list[dict[str, Any]]:
    """The one stage that AUTOMATIC1111's text `parameters` tells of. Raises `MetadataError`."""
    return [{"id": "img2img", "type": "img2img", "params": of_a1111(text)}]


def _escaped(stage: Mapping[str, Any]) -> dict[str, Any]:
    params = {key: value for key, value in stage["params"].items() if key not in _LEFT_OUT}
    for name in _templates(str(stage.get("type", ""))):
        if isinstance(text := params.get(name), str):
            params[name] = text.replace("{", "{{").replace("}", "}}")
    return params


def _templates(kind: str) -> tuple[str, ...]:
    try:
        return registry.stage_class(kind).templates
    except (ConfigError, KeyError, ImportError):  # of a package that is not installed here
        return ()


def _key(text: object) -> str:
    key = str(text)
    is_plain = set(key) <= _PLAIN_KEY and key[:1].isalpha() and key.lower() not in _NO_TEXT
    return key if is_plain else yaml12.dumps(key)


def _flow(value: Any) -> str:
    """A value on one line. JSON is YAML; mappings get blanks as people write them."""
    if is_mapping(value):
        inner = ", ".join(f"{_key(key)}: {_flow(item)}" for key, item in value.items())
        return f"{{{inner}}}"
    return yaml12.dumps(value)
