"""What was sent and is not back yet: a thread each looks at the folders, a timer at the threads."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import bpy

from . import results
from .client import Client, Drop, State

INTERVAL_S = 0.5
DONE_SHOWN = 4

tasks: list[Task] = []
"""All that are under way and the last that were, oldest first."""


class Task(threading.Thread):
    """Sends one image and follows its job. Touches nothing of Blender's: that is the timer's."""

    def __init__(self, client: Client, image: bytes, given: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._image = image
        self._given = given
        self._stopped = threading.Event()
        self.state = State("waiting", "being sent")
        self.title: str = given["name"]
        # Where the cursor is now: by the time the mesh comes it serves other ends.
        self.scene: str = bpy.context.scene.name
        self.at = bpy.context.scene.cursor.location.copy()
        self.is_done = False

    def run(self) -> None:
        try:
            drop = self._client.send(image=self._image, **self._given)
        except (OSError, LookupError, ValueError) as error:
            text = error.args[0] if isinstance(error, LookupError) else str(error)
            self.state = State("failed", error={"code": "not_sent", "message": text})
            return
        while not self.state.is_over and not self._stopped.wait(INTERVAL_S):
            self.state = self._look(drop)

    def _look(self, drop: Drop) -> State:
        try:
            return self._client.state(drop)
        except OSError as error:  # a share that is away may come back
            return State("waiting", str(error))

    def stop(self) -> None:
        self._stopped.set()


def start(client: Client, image: bytes, given: dict[str, Any]) -> None:
    """Send in the background; `poll` does the rest."""
    task = Task(client, image, given)
    for done in [other for other in tasks if other.is_done][:-DONE_SHOWN]:
        tasks.remove(done)
    tasks.append(task)
    task.start()
    if not bpy.app.timers.is_registered(poll):
        bpy.app.timers.register(poll, first_interval=INTERVAL_S, persistent=True)


def poll() -> float | None:
    """Import what has come and show how far the rest is; seconds to the next call."""
    for task in tasks:
        # Nobody is torn out of edit mode; the mesh comes in once they are back.
        if not task.is_done and task.state.is_over and bpy.context.mode == "OBJECT":
            _finish(task)
    _redraw()
    return INTERVAL_S if any(not task.is_done for task in tasks) else None


def _finish(task: Task) -> None:
    task.is_done = True
    meshes = task.state.paths("mesh")
    for path in meshes:
        if path.suffix == ".glb":
            _bring(task, path)
    if meshes and not any(path.suffix == ".glb" for path in meshes):
        message = f"{task.state.folder} has no .glb; add glb to the formats of its stage triposr"
        task.state = State("failed", error={"code": "not_imported", "message": message})


def _bring(task: Task, path: Path) -> None:
    try:
        results.bring(path, task.state, bpy.data.scenes.get(task.scene), task.at)
    except (RuntimeError, OSError) as error:
        message = f"{path} could not be imported: {error}"
        task.state = State("failed", error={"code": "not_imported", "message": message})


def _redraw() -> None:
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()


def stop_all() -> None:
    """Follow nothing any more; what was sent is made all the same."""
    for task in tasks:
        task.stop()
    tasks.clear()
    if bpy.app.timers.is_registered(poll):
        bpy.app.timers.unregister(poll)
