"""Preferences (the folders, or the server) and settings of a scene (the request to send)."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

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

    server: StringProperty(
        name="Server",
        description=(
            "Address of the pipeline's server, like https://studio:8000, where no folder is "
            "shared. It takes the place of the folders"
        ),
    )
    token: StringProperty(
        name="Token", description="What the server's token file holds", subtype="PASSWORD"
    )
    certificate: StringProperty(
        name="Certificate",
        description="PEM file, for a server whose certificate the system does not know",
        subtype="FILE_PATH",
    )

    def draw(self, context: Any) -> None:
        shown = (
            ("server", "token", "certificate") if self.server else ("folder", "inboxes", "server")
        )
        for name in shown:
            self.layout.prop(self, name)


def _names_of_inboxes(self: Any, context: Any, text: str) -> list[str]:
    return list(client_for("", is_brief=True).inboxes())


def _names_of_pipelines(self: Any, context: Any, text: str) -> list[str]:
    return client_for("", is_brief=True).status().get("pipelines", [])


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


def client_for(inbox: str, *, is_brief: bool = False) -> Client:
    """A client of the server or the folders in the preferences. Raises ValueError where there are
    none.

    Args:
        is_brief: ask a server once, since Blender's window waits meanwhile.
    """
    chosen = bpy.context.preferences.addons[__package__].preferences
    if chosen.server:
        return _client_of_server(chosen, is_brief=is_brief)
    if not chosen.folder:
        raise ValueError("Choose the outbox, or a server, in the add-on's preferences")
    inboxes = {}
    if chosen.inboxes and inbox:
        inboxes[inbox] = Path(bpy.path.abspath(chosen.inboxes), inbox)
    return Client(bpy.path.abspath(chosen.folder), inboxes)


def _client_of_server(chosen: Any, *, is_brief: bool) -> Client:
    address = chosen.server.strip()
    if not address.startswith(("http://", "https://")):
        raise ValueError(f"The server's address should begin with https:// or http://: {address}")
    is_here = urlsplit(address).hostname in ("localhost", "127.0.0.1", "::1")
    if not is_here and not bpy.app.online_access:
        raise ValueError("Allow Online Access in Preferences → System, to reach the server")
    return Client(
        address,
        token=chosen.token.strip() or None,
        cafile=bpy.path.abspath(chosen.certificate) if chosen.certificate else None,
        folder=downloads(),
        **({"timeout_s": 3.0, "waits_s": ()} if is_brief else {}),
    )


def downloads() -> Path:
    """The folder that results of a server are downloaded to: beside the .blend, so that they stay
    with it; for one that was never saved, in Blender's temporary folder."""
    blend = bpy.data.filepath
    return Path(blend).parent / "dna-pipeline" if blend else Path(bpy.app.tempdir, "dna-pipeline")


CLASSES = (Preferences, Settings)
