"""The add-on's buttons."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
from bpy.props import StringProperty

from . import pictures, results, settings, tasks

Picture = tuple[bytes, str, str]
"""Bytes, suffix, and default name."""


def _send(operator: Any, context: Any, picture: Callable[[Any], Picture]) -> set[str]:
    chosen = context.scene.dna_pipeline
    try:
        if not chosen.inbox:
            raise ValueError("Choose an inbox")
        client = settings.client_for(chosen.inbox)
        image, suffix, name = picture(context)
    except (OSError, RuntimeError, ValueError) as error:
        operator.report({"ERROR"}, str(error).strip())
        return {"CANCELLED"}
    request = {
        "inbox": chosen.inbox, "sidecar": chosen.sidecar(), "name": chosen.name or name,
        "suffix": suffix, "unique": not chosen.keeps_name,
    }  # fmt: skip
    tasks.start(client, image, request)
    return {"FINISHED"}


class SendView(bpy.types.Operator):
    """Send what the viewport shows; the mesh comes to where the 3D cursor is now"""

    bl_idname = "dna_pipeline.send_view"
    bl_label = "Send View"

    def execute(self, context: Any) -> set[str]:
        return _send(self, context, self.picture)

    def picture(self, context: Any) -> Picture:
        blend = Path(bpy.data.filepath).stem
        name = context.object.name if context.object else blend or "view"
        return pictures.view(context, context.scene.dna_pipeline.size), ".png", name


class SendImage(bpy.types.Operator):
    """Send the image, or the file; the mesh comes to where the 3D cursor is now"""

    bl_idname = "dna_pipeline.send_image"
    bl_label = "Send Image"

    filepath: StringProperty(
        name="File", description="Empty: the image chosen in the panel", subtype="FILE_PATH"
    )

    def execute(self, context: Any) -> set[str]:
        return _send(self, context, self.picture)

    def picture(self, context: Any) -> Picture:
        if self.filepath:
            path = Path(bpy.path.abspath(self.filepath))
            return path.read_bytes(), path.suffix, path.stem
        image = context.scene.dna_pipeline.image
        if image is None:
            raise ValueError("Choose an image")
        return *pictures.of_image(image, context.scene), Path(image.name).stem


class ReloadLatest(bpy.types.Operator):
    """Replace the active object's mesh by the newest result of its name; it stays as placed"""

    bl_idname = "dna_pipeline.reload_latest"
    bl_label = "Reload Latest"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Any) -> bool:
        return context.mode == "OBJECT" and results.collection_of(context.object) is not None

    def execute(self, context: Any) -> set[str]:
        collection = results.collection_of(context.object)
        inbox, stem = collection[results.INBOX], collection[results.STEM]
        try:
            path = settings.client_for(inbox).latest(
                inbox, stem, name=collection.get(results.NAME, "")
            )
            if path is None:
                raise ValueError(f"There is no finished {stem}.glb of the inbox {inbox}")
            results.replace(collection, path)
        except (OSError, RuntimeError, ValueError) as error:
            self.report({"ERROR"}, str(error).strip())
            return {"CANCELLED"}
        return {"FINISHED"}


class OpenPage(bpy.types.Operator):
    """Show the result's page in the browser"""

    bl_idname = "dna_pipeline.open_page"
    bl_label = "Open Page"
    bl_options = {"INTERNAL"}

    url: StringProperty(name="Address", options={"HIDDEN", "SKIP_SAVE"})

    def execute(self, context: Any) -> set[str]:
        if not self.url.startswith(("http://", "https://")):
            self.report({"ERROR"}, f"This is no address of a page: {self.url}")
            return {"CANCELLED"}
        return bpy.ops.wm.url_open(url=self.url)


CLASSES = (SendView, SendImage, ReloadLatest, OpenPage)
