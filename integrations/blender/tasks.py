"""Images that were sent and are not finished. A thread for each follows its job, and one timer
watches the threads."""

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
"""All unfinished tasks and the last finished ones, oldest first."""


class Task(threading.Thread):
    """Sends one image and follows its job. Only the timer touches Blender."""

    def __init__(self, client: Client, image: bytes, request: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._image = image
        self._request = request
        self._stopped = threading.Event()
        self.state = State("waiting", "being sent")
        self.title: str = request["name"]
        self.page: str | None = None
        """Address of the job's page, once it has one."""
        # The cursor may be elsewhere by the time the mesh arrives.
        self.scene: str = bpy.context.scene.name
        self.at = bpy.context.scene.cursor.location.copy()
        self.is_done = False

    def run(self) -> None:
        try:
            drop = self._client.send(image=self._image, **self._request)
        except (OSError, LookupError, ValueError) as error:
            text = error.args[0] if isinstance(error, LookupError) else str(error)
            self.state = State("failed", error={"code": "not_sent", "message": text})
            return
        while not self.state.is_over and not self._stopped.wait(INTERVAL_S):
            self.state = self._look(drop)

    def _look(self, drop: Drop) -> State:
        try:
            state = self._client.state(drop)
            self.page = self._client.page(state)
            if state.kind == "completed":
                state.paths("mesh")  # from a server they are downloaded here, not by the timer
        except OSError as error:  # a network share or a server may come back
            return State("waiting", str(error))
        return state

    def stop(self) -> None:
        self._stopped.set()


def start(client: Client, image: bytes, request: dict[str, Any]) -> None:
    """Send an image in the background; `poll` imports the result."""
    task = Task(client, image, request)
    for done in [other for other in tasks if other.is_done][:-DONE_SHOWN]:
        tasks.remove(done)
    tasks.append(task)
    task.start()
    if not bpy.app.timers.is_registered(poll):
        bpy.app.timers.register(poll, first_interval=INTERVAL_S, persistent=True)


def poll() -> float | None:
    """Import finished results and redraw the progress. Returns the seconds until the next call."""
    for task in tasks:
        # Importing ends edit mode, so wait until the user has left it.
        if not task.is_done and task.state.is_over and bpy.context.mode == "OBJECT":
            _finish(task)
    _redraw()
    return INTERVAL_S if any(not task.is_done for task in tasks) else None


def _finish(task: Task) -> None:
    task.is_done = True
    meshes = task.state.paths("mesh")
    for path in meshes:
        if path.suffix == ".glb":
            _import(task, path)
    if meshes and not any(path.suffix == ".glb" for path in meshes):
        message = f"{task.state.folder} has no .glb; add glb to the formats of its stage triposr"
        task.state = State("failed", error={"code": "not_imported", "message": message})


def _import(task: Task, path: Path) -> None:
    try:
        results.import_result(path, task.state, bpy.data.scenes.get(task.scene), task.at)
    except (RuntimeError, OSError) as error:
        message = f"{path} could not be imported: {error}"
        task.state = State("failed", error={"code": "not_imported", "message": message})


def _redraw() -> None:
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()


def stop_all() -> None:
    """Stop following all tasks. The pipeline still processes the images that were sent."""
    for task in tasks:
        task.stop()
    tasks.clear()
    if bpy.app.timers.is_registered(poll):
        bpy.app.timers.unregister(poll)
