"""Prompt and parameters that other programs wrote into a picture's texts.

AUTOMATIC1111 and its kin write one text of lines; ComfyUI writes the graph of its nodes, InvokeAI
and Fooocus write JSON. The keys of a result are parameters of `img2img` in any spelling.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from dna_pipeline.config.yaml12 import is_mapping

_PAIR = re.compile(r'\s*([A-Za-z][\w /-]*):\s*("(?:[^"\\]|\\.)*"|[^,]*)(?:,|$)')
_LEAST_PAIRS = 3
"""A last line with fewer of them belongs to the prompt."""
_NEGATIVE = "Negative prompt:"
_A1111_KEYS = {
    "Steps": ("steps", int), "Sampler": ("sampler", str), "Schedule type": ("schedule", str),
    "CFG scale": ("guidance_scale", float), "Seed": ("seed", int),
    "Denoising strength": ("strength", float), "Clip skip": ("clip_skip", int),
}  # fmt: skip
_JSON_KEYS = {
    "prompt": "prompt", "positive_prompt": "prompt", "negative_prompt": "negative_prompt",
    "seed": "seed", "steps": "steps", "cfg_scale": "guidance_scale", "strength": "strength",
    "guidance_scale": "guidance_scale",
}  # fmt: skip
_COMFY_KEYS = {
    "seed": "seed", "noise_seed": "seed", "steps": "steps", "cfg": "guidance_scale",
    "sampler_name": "sampler", "scheduler": "schedule", "denoise": "strength",
}  # fmt: skip
_MOST_LINKS = 32


class MetadataError(ValueError):
    """There is no prompt that can be read; the message is a clause with the reason."""


def parameters_of(texts: Mapping[str, str]) -> dict[str, Any]:
    """Parameters that the texts of a picture name, with at least `prompt`.

    Raises:
        MetadataError: they have no prompt, or not in a form that is read here.
    """
    if (text := texts.get("parameters")) is not None:
        return _of_object(text) if text.lstrip().startswith("{") else of_a1111(text)
    if (text := texts.get("invokeai_metadata")) is not None:
        return _of_object(text)
    if (text := texts.get("prompt")) is not None:
        return _of_comfyui(text)
    if not texts:
        raise MetadataError("the image has no texts of a program that made it")
    names = ", ".join(sorted(texts)[:6])
    raise MetadataError(f"the image's texts have no prompt in a form that is read here: {names}")


def of_a1111(text: str) -> dict[str, Any]:
    """Parameters in the text `parameters` of AUTOMATIC1111. Raises `MetadataError`."""
    *lines, last = text.strip().split("\n")
    pairs = _PAIR.findall(last)
    if len(pairs) < _LEAST_PAIRS:
        lines, pairs = [*lines, last], []
    start = next((i for i, line in enumerate(lines) if line.startswith(_NEGATIVE)), len(lines))
    negative = "\n".join(lines[start:]).removeprefix(_NEGATIVE).strip()
    values = {"prompt": "\n".join(lines[:start]).strip(), "negative_prompt": negative}
    return values | _of_pairs(dict(reversed(pairs)))  # the first of two with one key counts


def _of_pairs(pairs: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, (name, kind) in _A1111_KEYS.items():
        if (text := pairs.get(key, "").strip().strip('"')) == "":
            continue
        try:
            values[name] = kind(text)
        except ValueError:
            raise MetadataError(f"the image's text has {key}: {text[:40]}") from None
    if values.get("schedule", "").casefold() in ("automatic", "normal"):
        del values["schedule"]  # the sampler's own one
    return values


def _of_object(text: str) -> dict[str, Any]:
    document = _json(text)
    values = {name: document[key] for key, name in _JSON_KEYS.items() if _is_value(document, key)}
    if not isinstance(values.get("prompt"), str):
        raise MetadataError("the image's metadata has no prompt in a form that is read here")
    scheduler = document.get("scheduler")
    if isinstance(scheduler, str):
        values["sampler"] = scheduler.removesuffix("_k")
        values |= {"schedule": "karras"} if scheduler.endswith("_k") else {}
    return values


def _is_value(document: Mapping[str, Any], key: str) -> bool:
    value = document.get(key)
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _json(text: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not is_mapping(document):
        raise MetadataError("the image's metadata is damaged: it is no JSON object")
    return document


# --- ComfyUI ---


def _of_comfyui(text: str) -> dict[str, Any]:
    """Parameters of the one sampler in a graph of ComfyUI's nodes. Raises `MetadataError`."""
    nodes = {key: node for key, node in _json(text).items() if is_mapping(node)}
    samplers = [
        values for node in nodes.values() if (values := _of_sampler(nodes, node)) is not None
    ]
    prompts = {(v["prompt"], v["negative_prompt"]) for v in samplers}
    if len(prompts) != 1:
        count = "no" if not prompts else str(len(prompts))
        raise MetadataError(f"the image's workflow of ComfyUI has {count} prompts to choose from")
    return samplers[0]


def _of_sampler(nodes: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, Any] | None:
    """Parameters of a node that takes two prompts; None for any other."""
    inputs = node.get("inputs")
    if not is_mapping(inputs) or not {"positive", "negative", "latent_image"} <= inputs.keys():
        return None
    prompt = _text_at(nodes, inputs["positive"])
    if prompt is None:
        return None
    values: dict[str, Any] = {
        name: inputs[key] for key, name in _COMFY_KEYS.items() if _is_value(inputs, key)
    }
    if values.get("strength") == 1:
        del values["strength"]  # it began without a picture
    negative = _text_at(nodes, inputs["negative"]) or ""
    return values | {"prompt": _plain(prompt), "negative_prompt": _plain(negative)}


def _text_at(nodes: Mapping[str, Any], link: object) -> str | None:
    """The one text that a link of a graph leads back to; None if it is not one."""
    for _ in range(_MOST_LINKS):
        if isinstance(link, str):
            return link
        source = cast("list[object]", link)[:1] if isinstance(link, list) else []
        node = nodes.get(str(source[0])) if source else None
        inputs = node.get("inputs") if is_mapping(node) else None
        if not is_mapping(inputs):
            return None
        link = next(_forward(inputs), None)
    return None


def _forward(inputs: Mapping[str, Any]) -> Iterator[Any]:
    names: Iterable[str] = ("text", "text_g", "string", "value", "conditioning", "positive")
    return (inputs[name] for name in names if name in inputs)


def _plain(text: str) -> str:
    """The prompt without the word that marks a textual inversion, which is used by its name."""
    return re.sub(r"\bembedding:\s*", "", text)
