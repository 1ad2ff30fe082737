"""Preferences (the folders) and settings of a scene (the request to send)."""

from pathlib import Path
from typing import Any

import bpy
from bpy.props import BoolProperty, IntProperty, PointerProperty, StringProperty

from .client import Client


class Preferences(bpy.types.AddonPreferences):
    bl_idname = __package__

    folder: StringProperty(
        name="Outbox",
        description="The pipeline's outbox, or the folder of its pipeline.yaml",
        subtype="DIR_PATH",
    )
    inboxes: StringProperty(
        name="Inboxes",
        description=(
            "The folder that holds the inboxes, each by its name. "
            "Only needed where the pipeline runs on another machine, whose paths are not this one's"
        ),
        subtype="DIR_PATH",
    )

    def draw(self, context: Any) -> None:
        self.layout.prop(self, "folder")
        self.layout.prop(self, "inboxes")


def _names_of_inboxes(self: Any, context: Any, text: str) -> list[str]:
    return list(client_for("").inboxes())


def _names_of_pipelines(self: Any, context: Any, text: str) -> list[str]:
    return client_for("").status().get("pipelines", [])


class Settings(bpy.types.PropertyGroup):
    inbox: StringProperty(name="Inbox", description="Where to send to", search=_names_of_inboxes)
    pipeline: StringProperty(
        name="Pipeline",
        description="What to do; empty: the inbox's own",
        search=_names_of_pipelines,
    )
    name: StringProperty(
        name="Name", description="What the result is called; empty: as the object or the image"
    )
    keeps_name: BoolProperty(
        name="Replace",
        description=(
            "Replace the image of that name in the inbox, so that Reload Latest finds its newest "
            "result. For inboxes that keep their originals"
        ),
    )
    prompt: StringProperty(
        name="Prompt", description="For pipelines with img2img; empty: the pipeline's own"
    )
    seed: IntProperty(name="Seed", description="Negative: drawn", default=42, min=-1)
    size: IntProperty(
        name="Size", description="Width and height of a view", default=512, min=64, max=4096,
        subtype="PIXEL",
    )  # fmt: skip
    image: PointerProperty(name="Image", type=bpy.types.Image)

    def sidecar(self) -> dict[str, Any]:
        """Build the sidecar of an image."""
        document: dict[str, Any] = {"seed": self.seed}
        if self.pipeline:
            document["pipeline"] = self.pipeline
        if self.prompt:
            document["img2img"] = {"prompt": self.prompt}
        return document


def client_for(inbox: str) -> Client:
    """A client of the folders in the preferences. Raises ValueError where there are none."""
    chosen = bpy.context.preferences.addons[__package__].preferences
    if not chosen.folder:
        raise ValueError("Choose the outbox in the add-on's preferences")
    inboxes = {}
    if chosen.inboxes and inbox:
        inboxes[inbox] = Path(bpy.path.abspath(chosen.inboxes), inbox)
    return Client(bpy.path.abspath(chosen.folder), inboxes)


CLASSES = (Preferences, Settings)
