"""Replays a tutorial: runs its commands as they stand there, and compares what they print.

    ```console                     a command behind each `$ `, and below it what it prints
    ```yaml file=PATH              writes that file
    <!-- replay: models A B -->    puts small models into the next folder that `init` makes
    <!-- replay: replace "A" by "B" in FILE -->
    <!-- replay: remove the line with "A" from FILE -->

A line `…` stands for any lines, and `…` in a line for any text. Ids, times and amounts with a unit
may be others; an id that was printed stands for the real one from there on, in commands and paths
too. `dna-pipeline watch` runs until the tutorial ends; while it runs, what `ls` is to print is
waited for.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

BLOCK = re.compile(
    r"^```(?P<kind>\w+)(?: file=(?P<file>\S+))?\n(?P<text>.*?)^```$"
    r"|^<!-- replay: (?P<order>.*?) -->$",
    re.MULTILINE | re.DOTALL,
)
JOB = re.compile(r"\b[0-9a-f]{8}\b")
VARYING = re.compile(
    r"(?P<any>…)|(?P<job>\b[0-9a-f]{8}\b)"
    r"|(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?)"
    r"|(?P<amount>\d[\d.,]*)(?= (?:s|min|KiB|MiB|GiB|MB|GB)\b)"
    r"|(?P<blanks> {2,})"
)
PATTERNS = {
    "any": ".*?", "job": "([0-9a-f]{8})", "blanks": " +",
    "time": r"\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)?", "amount": r"\d[\d.,]*",
}  # fmt: skip
PATIENCE_S = 120.0


@dataclass
class Replay:
    """A tutorial while it is replayed.

    Attributes:
        folder: the folder in which its reader is.
        put_models: puts the models of these names into a folder of models.
        ids: the real id for each one in the tutorial.
    """

    folder: Path
    environment: Mapping[str, str]
    put_models: Callable[[Path, Sequence[str]], None]
    ids: dict[str, str] = field(default_factory=dict[str, str])
    commands: int = 0
    _models: Sequence[str] = ()
    _daemon: subprocess.Popen[bytes] | None = None

    def run(self, tutorial: str) -> None:
        """Do all that it says, in order.

        Raises:
            AssertionError: a command printed something else, or failed without a word of it.
        """
        try:
            for block in BLOCK.finditer(tutorial):
                if block["order"] is not None:
                    self._follow(block["order"])
                elif block["file"] is not None:
                    path = self.folder / block["file"]
                    assert path.parent.is_dir(), path
                    path.write_text(self._with_ids(block["text"]), encoding="utf-8")
                elif block["kind"] == "console":
                    for command, said in commands(block["text"]):
                        self._command(self._with_ids(command), said)
        finally:
            if self._daemon is not None:
                self._daemon.send_signal(signal.SIGINT)
                assert self._daemon.wait(60) == 0

    def _follow(self, order: str) -> None:
        """Do what is said to the test alone, in place of an editor's work."""
        kind, _, rest = order.partition(" ")
        if kind == "models":
            self._models = rest.split()
            return
        before, *after, file = re.findall(r'"(.*?)"| (?:in|from) (\S+)$', self._with_ids(rest))
        path = self.folder / file[1]
        text = path.read_text(encoding="utf-8")
        assert text.count(before[0]) == 1, (order, text)
        if kind == "replace":
            text = text.replace(before[0], after[0][0])
        else:
            assert kind == "remove"
            lines = text.splitlines(keepends=True)
            text = "".join(line for line in lines if before[0] not in line)
        path.write_text(text, encoding="utf-8")

    def _command(self, command: str, said: list[str]) -> None:
        self.commands += 1
        if command.startswith("cd "):
            self.folder /= command[3:]
            assert self.folder.is_dir()
        elif command == "dna-pipeline watch":
            self._watch()
        else:
            self._compare(command, said)
            if command.startswith("dna-pipeline init "):
                self.put_models(self.folder / command.split()[2] / "data/models", self._models)

    def _watch(self) -> None:
        with (self.folder / "watch.log").open("wb") as log:
            self._daemon = subprocess.Popen(
                ["dna-pipeline", "watch"],
                cwd=self.folder, env=self.environment, stdout=log, stderr=log,
            )  # fmt: skip
        self._until(lambda: b"daemon.started" in (self.folder / "watch.log").read_bytes())

    def _compare(self, command: str, said: list[str]) -> None:
        printed: list[str] = []

        def fits() -> bool:
            printed[:] = self._printed(command)
            return self._fits(printed, said)

        if said and self._daemon is not None and command.startswith("ls "):
            self._until(fits)
        else:
            fits()
        assert self._fits(printed, said) or not said, f"{command}\n" + "\n".join(printed)

    def _printed(self, command: str) -> list[str]:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder, env=self.environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if "init" in command else subprocess.PIPE, timeout=300,
        )  # fmt: skip
        error = (done.stderr or b"").decode()
        assert "Traceback" not in error, error
        lines = done.stdout.decode().splitlines()
        assert lines or done.returncode == 0 or self._daemon is not None, (command, error)
        return [line.rstrip() for line in lines]

    def _fits(self, printed: list[str], said: list[str]) -> bool:
        match = re.fullmatch("".join(map(self._line, said)), "".join(f"{p}\n" for p in printed))
        if match is None:
            return False
        new = [name for line in said for name in JOB.findall(line) if name not in self.ids]
        self.ids |= zip(new, match.groups(), strict=True)
        return True

    def _line(self, said: str) -> str:
        """The pattern of the lines for which one line of the tutorial stands."""
        if said == "…":
            return "(?:.*\n)*"
        pattern, at = "", 0
        for varying in VARYING.finditer(said):
            kind = varying.lastgroup
            assert kind is not None
            part = PATTERNS[kind]
            if kind == "job" and varying[0] in self.ids:
                part = self.ids[varying[0]]
            pattern += re.escape(said[at : varying.start()]) + part
            at = varying.end()
        return f"{pattern}{re.escape(said[at:])}\n"

    def _with_ids(self, text: str) -> str:
        return JOB.sub(lambda found: self.ids.get(found[0], found[0]), text)

    @staticmethod
    def _until(is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not is_so() and time.monotonic() < deadline:
            time.sleep(0.5)


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a block, with the lines that it prints."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *said = part.rstrip("\n").split("\n")
        yield command, said
