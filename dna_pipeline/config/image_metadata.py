"""Prompt and parameters that other programs wrote into a picture's texts.

AUTOMATIC1111 and its kin write one text of lines; ComfyUI writes the graph of its nodes; InvokeAI,
Fooocus, SwarmUI and NovelAI write JSON, and Easy Diffusion one text for each parameter. The keys of
a result are parameters of `img2img` in any spelling.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from dna_pipeline.config.yaml12 import is_mapping, one_line

_PAIR = re.compile(r'\s{0,8}([A-Za-z][\w /-]{0,60}):\s{0,8}("(?:[^"\\]|\\.)*"|[^,]*)(?:,|$)')
_MOST_CHARS = 8_000
"""Longest last line in which parameters are looked for: the search for pairs takes time in the
square of its length."""
_LEAST_PAIRS = 3
"""A last line with fewer of them belongs to the prompt."""
_STEPS = re.compile(r"^Steps: \d+,", re.MULTILINE)
"""Start of the last line of AUTOMATIC1111's text."""
USER_COMMENT = "UserComment"
"""Key of the comment in EXIF, where AUTOMATIC1111 writes `parameters` in a JPEG or WebP."""
NEGATIVE = "Negative prompt:"
_HALF_PAIR = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair. JSON can escape one alone, but no UTF-8 and no tokenizer takes it."""
_A1111_KEYS = {
    "Steps": ("steps", int), "Sampler": ("sampler", str), "Schedule type": ("schedule", str),
    "CFG scale": ("guidance_scale", float), "Seed": ("seed", int),
    "Denoising strength": ("strength", float), "Clip skip": ("clip_skip", int),
}  # fmt: skip
_KEYS = {
    "prompt": "prompt", "positive_prompt": "prompt", "negative_prompt": "negative_prompt",
    "negativeprompt": "negative_prompt", "uc": "negative_prompt", "seed": "seed", "steps": "steps",
    "num_inference_steps": "steps", "cfg_scale": "guidance_scale", "cfgscale": "guidance_scale",
    "guidance_scale": "guidance_scale", "scale": "guidance_scale", "strength": "strength",
    "prompt_strength": "strength", "initimagecreativity": "strength", "clip_skip": "clip_skip",
    "sampler": "sampler", "sampler_name": "sampler", "comfyuisampler": "sampler",
    "scheduler": "schedule", "comfyuischeduler": "schedule",
}  # fmt: skip
"""Parameters by the keys of all programs but AUTOMATIC1111 and ComfyUI."""
_KINDS: dict[str, type[int] | type[float]] = {
    "seed": int, "steps": int, "clip_skip": int, "guidance_scale": float, "strength": float,
}  # fmt: skip
_OWN_SCHEDULE = ("automatic", "normal")
"""Names of a sampler's own schedule."""
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
        return _of_json(text) if text.lstrip().startswith("{") else of_a1111(text)
    if (text := texts.get("invokeai_metadata")) is not None:
        return _of_invokeai(text)
    if texts.get("Software") == "NovelAI" and "Comment" in texts:
        return _of_values({"prompt": texts.get("Description")} | dict(_json(texts["Comment"])))
    if (text := texts.get(USER_COMMENT)) is not None and _is_of_a_program(text):
        return parameters_of({"parameters": text})
    by_words = {key.casefold().replace(" ", "_"): text for key, text in texts.items()}
    if {"prompt", "seed", "guidance_scale"} <= by_words.keys():
        return _of_values(by_words)
    if (text := texts.get("prompt")) is not None:
        return _of_comfyui(text)
    if not texts:
        raise MetadataError("the image has no texts of a program that made it")
    names = ", ".join(sorted(texts)[:6])
    raise MetadataError(f"the image's texts have no prompt in a form that is read here: {names}")


def _is_of_a_program(comment: str) -> bool:
    """True if the comment in a picture's EXIF is no note of a person or a camera, which write there
    too."""
    return comment.lstrip().startswith("{") or _STEPS.search(comment) is not None


def of_a1111(text: str) -> dict[str, Any]:
    """Parameters in the text `parameters` of AUTOMATIC1111. Raises `MetadataError`."""
    prompt, negative, pairs = _parts_of_a1111(text)
    return {"prompt": prompt, "negative_prompt": negative} | _of_pairs(pairs)


def labels_of_a1111(text: str) -> dict[str, str]:
    """All that the text `parameters` says, by the labels that AUTOMATIC1111 has for it."""
    prompt, negative, pairs = _parts_of_a1111(text)
    values = {key: _unquoted(value.strip()) for key, value in pairs.items()}
    return {"Prompt": prompt, "Negative prompt": negative} | values


def _unquoted(text: str) -> str:
    """The value that AUTOMATIC1111 wrote in quotes, since it has a comma or a colon."""
    try:
        value = json.loads(text) if text.startswith('"') else text
    except ValueError:
        return text
    return value if isinstance(value, str) and not _HALF_PAIR.search(value) else text


def _parts_of_a1111(text: str) -> tuple[str, str, dict[str, str]]:
    """The two prompts, and the values of the last line."""
    *lines, last = text.strip().split("\n")
    pairs = _PAIR.findall(last) if len(last) <= _MOST_CHARS else []
    if len(pairs) < _LEAST_PAIRS:
        lines, pairs = [*lines, last], []
    start = next((i for i, line in enumerate(lines) if line.startswith(NEGATIVE)), len(lines))
    negative = "\n".join(lines[start:]).removeprefix(NEGATIVE).strip()
    prompt = "\n".join(lines[:start]).strip()
    return prompt, negative, dict(reversed(pairs))  # the first of two with one key counts


def _of_pairs(pairs: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, (name, kind) in _A1111_KEYS.items():
        if (text := pairs.get(key, "").strip().strip('"')) == "":
            continue
        try:
            values[name] = kind(text)
        except ValueError:
            raise MetadataError(f"the image's text has {key}: {one_line(text, 40)}") from None
    return _without_own_schedule(values)


def _without_own_schedule(values: dict[str, Any]) -> dict[str, Any]:
    if str(values.get("schedule", "")).casefold() in _OWN_SCHEDULE:
        del values["schedule"]
    return values


def _of_json(text: str) -> dict[str, Any]:
    """Parameters of Fooocus, or of SwarmUI, which has them one level deeper."""
    document = _json(text)
    inner = document.get("sui_image_params")
    return _of_values(inner if is_mapping(inner) else document)


def _of_invokeai(text: str) -> dict[str, Any]:
    """Parameters of InvokeAI, whose word for a sampler is scheduler."""
    document = dict(_json(text))
    scheduler = document.pop("scheduler", None)
    if isinstance(scheduler, str):
        document["sampler"] = scheduler.removesuffix("_k")
        document |= {"scheduler": "karras"} if scheduler.endswith("_k") else {}
    return _of_values(document)


def _of_values(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document's parameters in our words. Raises `MetadataError`."""
    values = {name: document[key] for key, name in _KEYS.items() if _is_value(document, key)}
    if not isinstance(values.get("prompt"), str):
        raise MetadataError("the image's metadata has no prompt in a form that is read here")
    for name, kind in _KINDS.items():
        if isinstance(text := values.get(name), str):
            try:
                values[name] = kind(text)
            except ValueError:
                raise MetadataError(
                    f"the image's metadata has {name}: {one_line(text, 40)}"
                ) from None
    return _with_whole_texts(_without_own_schedule(values))


def _with_whole_texts(values: dict[str, Any]) -> dict[str, Any]:
    """The same values. Raises `MetadataError` if a text was cut within a character."""
    for name, value in values.items():
        if isinstance(value, str) and _HALF_PAIR.search(value):
            raise MetadataError(
                f"the image's metadata is damaged: its {name} has half of a character"
            )
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
    return _with_whole_texts(samplers[0])


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
        source = cast("list[object]", link)[:2] if isinstance(link, list) else []
        node = nodes.get(str(source[0])) if source else None
        inputs = node.get("inputs") if is_mapping(node) else None
        if not is_mapping(inputs):
            return None
        link = next(_forward(inputs, source[1:]), None)
    return None


def _forward(inputs: Mapping[str, Any], output: list[object]) -> Iterator[Any]:
    """Inputs that may hold the text of an output, which is counted from 0; the likeliest first."""
    if {"positive", "negative"} <= inputs.keys():  # such as a ControlNet: it changes both prompts
        return iter([inputs["negative" if output == [1] else "positive"]])
    names: Iterable[str] = ("text", "text_g", "string", "value", "conditioning", "positive")
    return (inputs[name] for name in names if name in inputs)


def _plain(text: str) -> str:
    """The prompt without the word that marks a textual inversion, which is used by its name."""
    return re.sub(r"\bembedding:\s*", "", text)
