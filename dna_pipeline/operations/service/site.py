"""A site: one pipeline.yaml, and how its daemon is started by the system."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import sysconfig
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dna_pipeline
from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.naming import printable
from dna_pipeline.config.schema import Config

SLUG_CHARS = 40
HASH_CHARS = 8

_UNFIT = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Categories of Unicode: control characters, bytes that are no UTF-8, ends of lines."""

PASSED_ON = ("PYTHONUTF8", "CUDA_VISIBLE_DEVICES")
"""Variables that the service gets as they are, where they are set when it is installed."""


@dataclass(frozen=True, slots=True)
class Site:
    """A pipeline.yaml, with the command and the environment of its daemon.

    Attributes:
        config: its absolute path, links in its folder followed.
        data: the data folder.
        logs: the folder of the log.
        command: the program and its arguments.
        variables: the environment that the daemon needs beside the system's.
        places: paths of all folders and models as they are written, for checks of drives.
    """

    config: Path
    data: Path
    logs: Path
    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    places: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return site_key(self.config)


def real_config(file: Path) -> Path:
    """The path of pipeline.yaml with the links in its folder followed. The file itself may be a
    link that several sites share."""
    return Path(os.path.realpath(file.parent)) / file.name


def site_key(config: Path) -> str:
    """Name of a site: letters of its folder's name, and a hash that keeps equal names apart.

    The same file always has the same key, so that a service is found again without any list.
    """
    ascii_name = unicodedata.normalize("NFKD", config.parent.name).encode("ascii", "ignore")
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_name.decode().lower())[:SLUG_CHARS].strip("-")
    digest = hashlib.sha256(os.fsencode(config)).hexdigest()[:HASH_CHARS]
    return f"{slug or 'site'}-{digest}"


def make_site(
    file: Path,
    config: Config,
    env: Mapping[str, str] = os.environ,
    python: str = sys.executable,
    options: Sequence[str] = (),
) -> Site:
    """Find out how the daemon of a pipeline.yaml is started.

    Args:
        file: pipeline.yaml, whose configuration `config` is.
        env: of the command that installs the service; variables that move folders are kept.
        options: further ones of `watch`.

    Raises:
        ConfigError: a path has characters that no file of a service manager can hold.
    """
    real = real_config(file)
    arguments = ("-m", "dna_pipeline", "--config", str(real), "watch", "--plain")
    arguments += tuple(options)
    site = Site(
        config=real,
        data=config.data,
        logs=config.logs,
        command=(python, *arguments),
        variables=_variables(config, env),
        places=(str(file), *_places(config)),
    )
    for text in (*site.command, *site.variables.values(), str(site.data)):
        _require_plain(text)
    return site


def _variables(config: Config, env: Mapping[str, str]) -> dict[str, str]:
    variables = {name: env[name] for name in PASSED_ON if env.get(name)}
    # The configuration has resolved these already; a relative path would start elsewhere.
    if env.get("DNA_DATA_DIR"):
        variables["DNA_DATA_DIR"] = str(config.data)
    if env.get("DNA_OUTPUT_DIR"):
        variables["DNA_OUTPUT_DIR"] = str(config.outbox)
    if log := env.get("DNA_DEBUG_LOG_PATH"):
        variables["DNA_DEBUG_LOG_PATH"] = str(Path(log).absolute())
    if paths := _import_paths(env):
        variables["PYTHONPATH"] = os.pathsep.join(paths)
    return variables


def _import_paths(env: Mapping[str, str]) -> list[str]:
    """Folders that Python must search, where the program runs from a checkout."""
    paths = [
        str(Path(path).absolute()) for path in env.get("PYTHONPATH", "").split(os.pathsep) if path
    ]
    own = str(Path(dna_pipeline.__file__).parents[1])
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return paths if own in installed or own in paths else [*paths, own]


def _places(config: Config) -> list[str]:
    folders = [config.data, config.outbox]
    for inbox in config.inboxes:
        folders += [inbox.path, *inbox.source_roots]
    models = [
        value
        for provider in config.models.declared.values()
        for value in provider.model_dump(mode="json").values()
    ]
    return [*map(str, folders), *(value for value in models if isinstance(value, str))]


def _require_plain(text: str) -> None:
    if not any(unicodedata.category(sign) in _UNFIT for sign in text):
        return
    raise ConfigError(
        f"{printable(text)!r}: has characters that a service's file cannot hold (line breaks, "
        "control characters, or bytes that are no UTF-8); rename the folder"
    )
