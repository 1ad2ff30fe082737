"""A panel that hands views and images to a running `dna-pipeline watch` and imports the meshes."""

from __future__ import annotations

import bpy

from . import operators, panel, settings, tasks

CLASSES = (*settings.CLASSES, *operators.CLASSES, *panel.CLASSES)


def register() -> None:
    for kind in CLASSES:
        bpy.utils.register_class(kind)
    bpy.types.Scene.dna_pipeline = bpy.props.PointerProperty(type=settings.Settings)


def unregister() -> None:
    tasks.stop_all()
    del bpy.types.Scene.dna_pipeline
    for kind in reversed(CLASSES):
        bpy.utils.unregister_class(kind)
