"""Installs, shows and removes the service of a site, whatever the system's service manager is."""

from __future__ import annotations

import getpass
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.operations import configuration
from dna_pipeline.operations.daemon.lock import daemon_words, holder, is_held
from dna_pipeline.operations.service.launchd import Launchd
from dna_pipeline.operations.service.site import Site, make_site, real_config, site_key
from dna_pipeline.operations.service.system import Installation, ServiceStatus, ServiceSystem
from dna_pipeline.operations.service.systemd import Systemd
from dna_pipeline.operations.service.task_scheduler import TaskScheduler

UNTRIED = {
    "darwin": "launchd",
    "win32": "Windows' Task Scheduler",
}
"""Service managers for which this is written after their manuals, and was never run."""


@dataclass(frozen=True, slots=True)
class Preview:
    """A file that `install` would write.

    Attributes:
        place: the path of the file, or the name under which the system keeps it.
    """

    place: str
    text: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Caller of the command, and the system that it is called on.

    Attributes:
        platform: as `sys.platform`.
        user: name of the person, with their domain on Windows.
        uid: their number; 0 is root; None on Windows.
        env: their environment.
    """

    platform: str
    user: str
    uid: int | None
    env: Mapping[str, str]

    @property
    def is_root(self) -> bool:
        return self.uid == 0


def caller() -> Caller:
    """Find out who calls."""
    env = os.environ
    if sys.platform == "win32":
        domain = env.get("USERDOMAIN")
        user = getpass.getuser()
        return Caller(sys.platform, f"{domain}\\{user}" if domain else user, None, env)
    return Caller(sys.platform, _user_name(os.geteuid()), os.geteuid(), env)


def preview(
    file: Path,
    who: Caller,
    *,
    is_system: bool,
    run_as: str | None,
    options: Sequence[str] = (),
) -> Preview:
    """Give the file that `install` would write. Raises `ConfigError`."""
    site, system = _prepare(file, who, is_system=is_system, run_as=run_as, options=options)
    return Preview(str(system.file(site.key) or system.name(site.key)), system.text(site))


def install(
    file: Path,
    who: Caller,
    *,
    is_system: bool,
    run_as: str | None,
    options: Sequence[str] = (),
) -> Installation:
    """Have the daemon of a pipeline.yaml start now and with the machine.

    Args:
        is_system: True for a service of the machine, False for one of the person who calls; root
            has only the former.
        run_as: name of the person whom the daemon of the machine runs as; None for the one who
            called sudo, else the owner of the folder of pipeline.yaml.
        options: further ones of `watch`.

    Raises:
        ConfigError: pipeline.yaml is wrong, or others wrote a file that is in the way.
        ServiceFailed: the service manager is not there, or did not do it.
    """
    site, system = _prepare(file, who, is_system=is_system, run_as=run_as, options=options)
    waits = not system.status(site.key).is_active and is_held(site.data)
    installation = system.install(site, waits=waits)
    if waits:
        installation.remarks.append(
            f"{site.data} is held by another daemon ({daemon_words(holder(site.data))}); end it, "
            "and the service takes over"
        )
    if title := UNTRIED.get(who.platform):
        installation.remarks.append(
            f"the service was written after the manual of {title}, and the project never ran one: "
            "check that it is there after a restart of the machine"
        )
    return installation


def status(file: Path, who: Caller, *, is_system: bool) -> ServiceStatus:
    """State of the service of a pipeline.yaml, which need not exist any more.

    Raises:
        ServiceFailed: the service manager does not answer.
    """
    key = site_key(real_config(file))
    current = _system(file, who, is_system=is_system).status(key)
    if current.is_installed or is_system or who.is_root:
        return current
    of_machine = _system(file, who, is_system=True).status(key)
    return of_machine if of_machine.is_installed else current


def remove(file: Path, who: Caller, *, is_system: bool) -> str | None:
    """Stop the service of a pipeline.yaml and remove it; its name, None if there was none.

    Raises:
        ConfigError: others wrote the file that is there.
        ServiceFailed: the service manager is not there, or did not do it.
    """
    key = site_key(real_config(file))
    system = _system(file, who, is_system=is_system)
    if system.remove(key):
        return system.name(key)
    if is_system or who.is_root:
        return None
    of_machine = _system(file, who, is_system=True)
    return of_machine.name(key) if of_machine.remove(key) else None


def _prepare(
    file: Path, who: Caller, *, is_system: bool, run_as: str | None, options: Sequence[str]
) -> tuple[Site, ServiceSystem]:
    if run_as is not None and not (is_system or who.is_root):
        raise ConfigError("--run-as is for a service of the machine: use it with --system")
    site = make_site(file, configuration.load(file), who.env, options=options)
    return site, _system(file, who, is_system=is_system, run_as=run_as)


def _system(
    file: Path, who: Caller, *, is_system: bool, run_as: str | None = None
) -> ServiceSystem:
    is_system = is_system or who.is_root
    user = _runner(file, who, run_as) if is_system else who.user
    call = shlex.join([sys.executable, "-m", "dna_pipeline", "--config", str(file)])
    if who.platform == "linux":
        return Systemd(user, is_system=is_system, call=call, env=who.env)
    if who.platform == "darwin":
        return Launchd(user, who.uid or 0, is_system=is_system, call=call)
    if who.platform == "win32":
        return TaskScheduler(run_as or who.user, is_system=is_system)
    raise ConfigError(
        f"how services are made is not known for {who.platform}; have the system run "
        f"`{call} watch --plain`"
    )


def _runner(file: Path, who: Caller, run_as: str | None) -> str:
    """Name of the person whom a daemon of the machine runs as."""
    if who.platform == "win32":
        return run_as or who.user
    if run_as is not None:
        return _existing_user(run_as)
    if who.is_root and (name := who.env.get("SUDO_USER")):
        return name
    try:
        return _user_name(file.parent.stat().st_uid)
    except OSError:
        return who.user


def _existing_user(name: str) -> str:
    import pwd

    try:
        return pwd.getpwnam(name).pw_name
    except KeyError:
        raise ConfigError(f"--run-as {name}: there is no such user here") from None


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
