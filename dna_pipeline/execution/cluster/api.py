"""Ray behind a few typed functions. No other module imports `ray`, whose types are incomplete.

All errors of Ray come out as `Lost` or `Refused`.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

NAMESPACE = "dna-pipeline"

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
"""Variables that keep Ray from reporting its use to its makers."""


class Lost(Exception):
    """An actor, its node or the whole cluster does not answer any more. The text says why."""


class Refused(Exception):
    """A method of an actor raised an error; the text is that error."""


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster, or a part of one.

    Attributes:
        name: the one given to it by `ray start --node-name`, else that of its machine.
        cpus, gpus: the resources that it offers, whether in use or not.
    """

    id: str
    name: str
    cpus: float
    gpus: float


@dataclass(frozen=True, slots=True)
class Needs:
    """The resources of a node that an actor takes."""

    cpus: float
    gpus: float


def _ray() -> Any:
    os.environ.update(QUIET)
    return import_module("ray")


def connect(address: str) -> None:
    """Join a cluster that runs. Raises `Lost`.

    Args:
        address: `auto` for the one of this machine, or `HOST:PORT` of its head.
    """
    ray = _ray()
    try:
        ray.init(
            address=address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR",
            configure_logging=False, include_dashboard=None,
        )  # fmt: skip
    except Exception as error:  # Ray raises errors of many kinds here
        raise Lost(_words(error)) from error


def nodes() -> list[Node]:
    """The nodes that are alive. Raises `Lost`."""
    with _errors():
        return [
            Node(entry["NodeID"], _name_of(entry), *_offer(entry["Resources"]))
            for entry in _ray().nodes()
            if entry["Alive"]
        ]


def _name_of(entry: dict[str, Any]) -> str:
    name, address = entry.get("NodeName") or "", entry.get("NodeManagerAddress")
    return name if name and name != address else entry.get("NodeManagerHostname") or name


def _offer(resources: dict[str, float]) -> tuple[float, float]:
    return resources.get("CPU", 0.0), resources.get("GPU", 0.0)


def draining() -> frozenset[str]:
    """Ids of the nodes that are about to leave the cluster. Raises `Lost`."""
    with _errors():
        state = import_module("ray._private.state").state
        # Not public, but the one that Ray Serve asks. Without it, a node is lost when it is gone.
        drained: dict[str, Any] = getattr(state, "get_draining_nodes", dict)()
        return frozenset(drained)


def own_node() -> str:
    """Id of the node that this process, an actor, runs on."""
    return _ray().get_runtime_context().get_node_id()


class Actor:
    """A process on some node that holds one object, and ends with this process.

    Ray neither restarts it nor repeats a call: the ledger decides what is tried again, and a new
    actor is made for that.

    Args:
        kind: the class of the object. Nodes import it by its name.
        arguments: of its constructor.
        groups: names of threads of its own, beside that for all other calls.
    """

    def __init__(
        self, kind: type[Any], arguments: tuple[Any, ...], needs: Needs, groups: tuple[str, ...]
    ) -> None:
        with _errors():
            remote = _ray().remote(concurrency_groups=dict.fromkeys(groups, 1))(kind)
            self._handle = remote.options(
                num_cpus=needs.cpus, num_gpus=needs.gpus, max_restarts=0, max_task_retries=0,
                max_concurrency=1, scheduling_strategy="SPREAD",
            ).remote(*arguments)  # fmt: skip

    def start(self, method: str, *arguments: Any, group: str | None = None) -> Any:
        """Begin a call and return a reference to its result. Calls of one group run in order."""
        with _errors():
            options = {} if group is None else {"concurrency_group": group}
            return getattr(self._handle, method).options(**options).remote(*arguments)

    def call(self, method: str, *arguments: Any, timeout_s: float, group: str | None = None) -> Any:
        """Call a method and wait for its result. Raises `Lost` and `Refused`."""
        return result(self.start(method, *arguments, group=group), timeout_s)

    def kill(self) -> None:
        """End the process, if it is there."""
        with suppress(Exception):
            _ray().kill(self._handle)


def result(reference: Any, timeout_s: float) -> Any:
    """Wait for the result of a call. Raises `Lost`, `Refused`, and TimeoutError."""
    with _errors():
        return _ray().get(reference, timeout=timeout_s)


@contextmanager
def _errors() -> Generator[None]:
    """Turn errors of Ray into those of this module; TimeoutError stays."""
    errors = import_module("ray.exceptions")
    try:
        yield
    except errors.GetTimeoutError as error:
        raise TimeoutError(_words(error)) from None
    except errors.RayTaskError as error:
        raise Refused(_words(error.cause or error)) from None
    except errors.RayError as error:
        raise Lost(_words(error)) from None
    except (RuntimeError, ConnectionError, ValueError) as error:
        raise Lost(_words(error)) from error


def _words(error: BaseException) -> str:
    """The first lines of an error, as one line without Ray's advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] or type(error).__name__
