"""Licences of published weights, by the SHA-256 of their files.

A manifest must not guess a licence from a name: a folder called `sd15` may hold weights that were
trained further, under other terms. A file with one of these hashes is the published file. Hashes
of configurations and vocabularies are not listed, since such files do not decide the licence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

NOT_KNOWN = "not known"
"""Entry of the manifest if neither the configuration nor a hash names the licence."""

WEIGHTS_SUFFIXES = frozenset({".bin", ".ckpt", ".onnx", ".pt", ".pth", ".safetensors"})

_OPENRAIL = "CreativeML-OpenRAIL-M"

LICENCES: Mapping[str, str] = {
    # stable-diffusion-v1-5, as a Diffusers folder: UNet, VAE, text encoder, safety checker
    "c83908253f9a64d08c25fc90874c9c8aef9a329ce1ca5fb909d73b0c83d1ea21": _OPENRAIL,
    "4fbcf0ebe55a0984f5a5e00d8c4521d52359af7229bb4d81890039d2aa16dd7c": _OPENRAIL,
    "77795e2023adcf39bc29a884661950380bd093cf0750a966d473d1718dc9ef4e": _OPENRAIL,
    "08902f19b1cfebd7c989f152fc0507bef6898c706a91d666509383122324b511": _OPENRAIL,
    "19da7aaa4b880e59d56843f1fcb4dd9b599c28a1d9d9af7c1143057c8ffae9f1": _OPENRAIL,
    "a2b5134f4dbc140d9c11f11cba3233099e00af40f262f136c691fb7d38d2194c": _OPENRAIL,
    "d008943c017f0092921106440254dbbe00b6a285f7883ec8ba160c3faad88334": _OPENRAIL,
    # the same in one file: pruned-emaonly, pruned, pruned-emaonly-fp16
    "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa": _OPENRAIL,
    "1a189f0be69d6106a48548e7626207dddd7042a418dbf372cefd05e0cdba61b6": _OPENRAIL,
    "e9476a13728cd75d8279f6ec8bad753a66a1957ca375a1464dc63b37db6e3916": _OPENRAIL,
    # TripoSR: model.ckpt
    "429e2c6b22a0923967459de24d67f05962b235f79cde6b032aa7ed2ffcd970ee": "MIT",
    # rembg: u2net, u2netp, BiRefNet general and lite
    "8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491": "Apache-2.0",
    "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8": "Apache-2.0",
    "58f621f00f5d756097615970a88a791584600dcf7c45b18a0a6267535a1ebd3c": "MIT",
    "5600024376f572a557870a5eb0afb1e5961636bef4e1e22132025467d0f03333": "MIT",
}
"""Licence of each published file, by its SHA-256.

ISNet is not listed: its code is free, but the terms of its training set are not.
"""


def is_weights(path: Path) -> bool:
    """True if a model's file of that name holds weights, not a configuration or a vocabulary."""
    return path.suffix.lower() in WEIGHTS_SUFFIXES


def licence_of(hashes: Iterable[str]) -> str:
    """Licence of a model that is loaded from files with these hashes.

    `NOT_KNOWN` unless every file is listed and all of them have the same licence.
    """
    licences = {LICENCES.get(sha256, NOT_KNOWN) for sha256 in hashes}
    return licences.pop() if len(licences) == 1 else NOT_KNOWN
