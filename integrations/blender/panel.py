"""The panel in the 3D viewport's sidebar."""

from __future__ import annotations

import textwrap
from typing import Any

import bpy

from . import operators, tasks

WIDTH = 44
ICONS = {"completed": "CHECKMARK", "failed": "ERROR", "running": "PLAY"}


class Panel(bpy.types.Panel):
    bl_idname = "VIEW3D_PT_dna_pipeline"
    bl_label = "dna-pipeline"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "dna-pipeline"

    def draw(self, context: Any) -> None:
        layout, chosen = self.layout, context.scene.dna_pipeline
        layout.use_property_split = True
        for name in ("inbox", "pipeline", "name", "keeps_name", "prompt", "seed"):
            layout.prop(chosen, name)
        view = layout.box()
        view.prop(chosen, "size")
        view.operator(operators.SendView.bl_idname, icon="RESTRICT_RENDER_OFF")
        image = layout.box()
        image.template_ID(chosen, "image", open="image.open")
        image.operator(operators.SendImage.bl_idname, icon="IMAGE_DATA")
        layout.operator(operators.ReloadLatest.bl_idname, icon="FILE_REFRESH")
        for task in reversed(tasks.tasks):
            _draw_task(layout, task)


def _draw_task(layout: Any, task: Any) -> None:
    column, state = layout.column(align=True), task.state
    lines = textwrap.wrap(f"{task.title}: {state.text}", WIDTH)
    for number, line in enumerate(lines):
        column.label(text=line, icon="BLANK1" if number else ICONS.get(state.kind, "TIME"))
    if state.kind == "running":
        column.progress(factor=state.fraction)
    if task.page is not None:
        column.operator(operators.OpenPage.bl_idname, icon="URL").url = task.page


CLASSES = (Panel,)
