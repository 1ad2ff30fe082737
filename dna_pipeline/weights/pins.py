"""Published models: where their files lie, with the size and SHA-256 of each.

A pin is a file by its hash, at a fixed revision of a repository. What arrives under its name is
compared with it, so neither the hub, a mirror nor a proxy has to be trusted. `pins.json` is the one
place of these facts; licences of manifests come from it too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from dna_pipeline.base.errors import ConfigError

PINS_VARIABLE = "DNA_MODEL_PINS"
"""Variable of the environment that names another list of the same form as pins.json."""

HUB_VARIABLE = "HF_ENDPOINT"
RELEASES_VARIABLE = "DNA_GITHUB_ENDPOINT"
_HUB = "https://huggingface.co"
_RELEASES = "https://github.com"

WEIGHTS_SUFFIXES = frozenset({".bin", ".ckpt", ".onnx", ".pt", ".pth", ".safetensors"})


def is_weights(path: Path | PurePosixPath) -> bool:
    """True if a model's file of that name holds weights, not a configuration or a vocabulary."""
    return path.suffix.lower() in WEIGHTS_SUFFIXES


def without_password(address: str) -> str:
    """An address without user and password, whatever else is wrong with it."""
    return re.sub(r"(?s)^([A-Za-z][\w+.-]*:/*)?.*@", r"\1", address)


@dataclass(frozen=True, slots=True)
class Source:
    """A repository on the hub at one revision, or one release on GitHub.

    Attributes:
        repository: `owner/name`.
        revision: of the repository, or the tag of the release.
    """

    repository: str
    revision: str
    is_hub: bool

    def endpoint(self, env: Mapping[str, str] = os.environ) -> str:
        """Address of the hub, of GitHub, or of the mirror that the environment names, for people:
        without the password that the variable may hold."""
        return without_password(self._endpoint(env))

    def url(self, path: str, env: Mapping[str, str] = os.environ) -> str:
        """Address of one file, with the password that the address of a mirror may hold."""
        return f"{self._endpoint(env)}/{self._path(path)}"

    def shown_url(self, path: str, env: Mapping[str, str] = os.environ) -> str:
        """Address of one file for people, without a password."""
        return f"{self.endpoint(env)}/{self._path(path)}"

    def _endpoint(self, env: Mapping[str, str]) -> str:
        name, default = (HUB_VARIABLE, _HUB) if self.is_hub else (RELEASES_VARIABLE, _RELEASES)
        return (env.get(name) or default).strip().rstrip("/")

    def _path(self, path: str) -> str:
        way = "resolve" if self.is_hub else "releases/download"
        return f"{self.repository}/{way}/{self.revision}/{quote(path)}"


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """One file of a model.

    Attributes:
        path: below the model's folder; the name of a model that is one file.
        remote: its path in the repository or release.
        option: part of the model that only some configurations use, such as `safety_checker`; ""
            for files that all need.
    """

    path: str
    remote: str
    bytes: int
    sha256: str
    option: str = ""

    @property
    def is_weights(self) -> bool:
        return is_weights(PurePosixPath(self.path))


@dataclass(frozen=True, slots=True)
class PinnedModel:
    """A model that can be fetched.

    Attributes:
        target: its place below the data folder, where the configuration names no other.
        aliases: names of folders that are taken to mean this model, as `plain_name` gives them.
        full: name of the model of the same kind in float32; "" if there is none.
    """

    name: str
    title: str
    provider: str
    target: str
    is_file: bool
    source: Source
    files: tuple[PinnedFile, ...]
    licence: str | None = None
    note: str = ""
    aliases: tuple[str, ...] = ()
    full: str = ""

    def selected(self, options: Iterable[str] = ()) -> tuple[PinnedFile, ...]:
        """The files that a configuration with these options needs."""
        return tuple(file for file in self.files if not file.option or file.option in options)

    def bytes(self, options: Iterable[str] = ()) -> int:
        """Size of these files together."""
        return sum(file.bytes for file in self.selected(options))


@dataclass(frozen=True, slots=True)
class Placement:
    """A published model and the place where one configuration expects it.

    Attributes:
        target: absolute path of the folder, or of the file if the model is one file.
        options: names of the optional parts that the configuration uses.
    """

    model: PinnedModel
    target: Path
    options: frozenset[str] = frozenset()

    @property
    def files(self) -> tuple[PinnedFile, ...]:
        return self.model.selected(self.options)

    def path_of(self, file: PinnedFile) -> Path:
        """Place of one of its files."""
        return self.target if self.model.is_file else self.target / file.path

    def lacking(self) -> tuple[PinnedFile, ...]:
        """Files of the published model that are not there."""
        return tuple(file for file in self.files if not self.path_of(file).is_file())


def plain_name(name: str) -> str:
    """A name without case, separators and signs: `sdv15` of `SD-v1.5`."""
    return re.sub(r"[\W_]", "", name.casefold())


class Pins:
    """All published models that are listed.

    Attributes:
        hashes: licence of each listed file of weights by its SHA-256; None if it is not known.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        sources = document["sources"]
        models = (_model(entry, sources[entry["source"]]) for entry in document["models"])
        self.models: dict[str, PinnedModel] = {model.name: model for model in models}
        self.hashes: dict[str, str | None] = {
            facts["sha256"]: facts.get("licence", source["licence"])
            for source in sources.values()
            for path, facts in source["files"].items()
            if is_weights(PurePosixPath(path))
        }

    def folder_named(self, provider: str, name: str) -> PinnedModel | None:
        """The model of a provider that a folder of that name is meant for."""
        for model in self.models.values():
            if model.provider == provider and plain_name(name) in model.aliases:
                return model
        return None

    def file_named(self, provider: str, name: str) -> PinnedModel | None:
        """The model of a provider that is one file of that name."""
        for model in self.models.values():
            if model.provider == provider and model.is_file and name == Path(model.target).name:
                return model
        return None

    def variants(self, model: PinnedModel) -> list[PinnedModel]:
        """The models of the same kind and form: that one first, then in float32 or float16."""
        others = (
            other
            for other in self.models.values()
            if other.name == model.full or other.full == model.name
        )
        return [model, *others]


def _model(entry: Mapping[str, Any], source: Mapping[str, Any]) -> PinnedModel:
    is_file = "file" in entry
    pairs = [(path, "") for path in ([entry["file"]] if is_file else entry["files"])]
    pairs += [(p, option) for option, paths in entry.get("optional", {}).items() for p in paths]
    folder = f"{entry['folder']}/" if "folder" in entry else ""
    listed = source["files"]
    files = tuple(
        PinnedFile(path, folder + path, facts["bytes"], facts["sha256"], option)
        for path, option in pairs
        for facts in (listed[folder + path],)
    )
    own = listed[files[0].remote].get("licence", source["licence"])
    return PinnedModel(
        name=entry["name"],
        title=entry["title"],
        provider=entry["provider"],
        target=entry["target"],
        is_file=is_file,
        source=_source(source),
        files=files,
        licence=entry.get("licence", own),
        note=entry.get("note", ""),
        aliases=tuple(entry.get("aliases", ())),
        full=entry.get("full", ""),
    )


def _source(source: Mapping[str, Any]) -> Source:
    if "hub" in source:
        return Source(source["hub"], source["revision"], True)
    return Source(source["release"], source["tag"], False)


def load_pins(env: Mapping[str, str] = os.environ) -> Pins:
    """The list of the package, or the one that `$DNA_MODEL_PINS` names. Raises `ConfigError`."""
    return _read(env.get(PINS_VARIABLE, ""))


@cache
def _read(place: str) -> Pins:
    try:
        return Pins(json.loads((Path(place) if place else PUBLISHED).read_bytes()))
    except OSError as error:
        raise ConfigError(f"{PINS_VARIABLE}: {place}: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{type(error).__name__} {error}"
        raise ConfigError(f"{PINS_VARIABLE}: {place} is no list of models: {what}") from None


PUBLISHED = Path(__file__).with_name("pins.json")
"""The list of the package."""
