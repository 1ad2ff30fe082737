"""Runs inside Blender's Python: installs the extension, does what a user does, tells what is there.

python in_blender.py ZIP install
python in_blender.py ZIP mesh OUTBOX
"""

import json
import sys
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock, PropertyMock, patch

import bpy

PACKAGE = "bl_ext.user_default.dna_pipeline"
TIMEOUT_S = 200
CURSOR = (3.0, -2.0, 1.0)


def install(archive: str) -> dict:
    bpy.ops.extensions.package_install_files(
        filepath=archive, repo="user_default", enable_on_install=True
    )
    operators = ("send_view", "send_image", "reload_latest", "open_page")
    return {
        "enabled": PACKAGE in bpy.context.preferences.addons,
        "panel": bpy.types.VIEW3D_PT_dna_pipeline.bl_category,
        "operators": [name for name in operators if hasattr(bpy.types, f"DNA_PIPELINE_OT_{name}")],
    }


def uninstall() -> dict:
    bpy.ops.preferences.addon_disable(module=PACKAGE)
    return {
        "enabled": PACKAGE in bpy.context.preferences.addons,
        "panel": hasattr(bpy.types, "VIEW3D_PT_dna_pipeline"),
        "settings": hasattr(bpy.types.Scene, "dna_pipeline"),
    }


def build_scene() -> None:
    """Something tall, red at the left, before a camera that looks at its front."""
    bpy.ops.wm.read_homefile(use_empty=True)
    scene = bpy.context.scene
    for x, color in ((-0.25, (1, 0, 0, 1)), (0.25, (0, 0, 1, 1))):
        bpy.ops.mesh.primitive_cube_add(size=1, location=(x, 0, 0), scale=(0.5, 0.5, 1.6))
        material = bpy.data.materials.new("colour")
        material.use_nodes = True
        shader = material.node_tree.nodes["Principled BSDF"]
        shader.inputs["Emission Color"].default_value = color
        shader.inputs["Emission Strength"].default_value = 1
        bpy.context.object.data.materials.append(material)
    bpy.context.object.name = "Tower"
    bpy.ops.object.camera_add(location=(0, -4, 0), rotation=(1.5708, 0, 0))
    scene.camera = bpy.context.object
    bpy.context.view_layer.objects.active = bpy.data.objects["Tower"]
    scene.render.engine = "CYCLES"
    scene.cycles.samples = 1
    scene.render.filepath = "//mine"
    scene.render.image_settings.file_format = "JPEG"
    scene.cursor.location = CURSOR


def send(operator, **given) -> dict:
    """Send, wait as Blender's timer does, and tell what came of it."""
    tasks = import_module(f"{PACKAGE}.tasks")
    operator(**given)
    task = tasks.tasks[-1]
    bpy.context.scene.cursor.location = (0, 0, 0)
    texts = []
    until = time.monotonic() + TIMEOUT_S
    while tasks.poll() is not None and time.monotonic() < until:
        texts.append(task.state.text)
        time.sleep(0.1)
    bpy.context.scene.cursor.location = CURSOR
    state = task.state
    return {"state": state.text, "texts": texts, "folder": str(state.folder),
            "manifest": state.manifest, "job": state.job}  # fmt: skip


def facts(item) -> dict:
    """What there is to be seen of an object."""
    bpy.context.view_layer.update()
    points = [item.matrix_world @ vertex.co for vertex in item.data.vertices]
    colors = [tuple(c.color) for layer in item.data.color_attributes for c in layer.data]
    links = [link for m in item.data.materials for link in m.node_tree.links]
    return {
        "name": item.name,
        "collections": [collection.name for collection in item.users_collection],
        "origin": list(item.matrix_world.translation),
        "rotation": list(item.matrix_world.to_euler()),
        "points": [list(point) for point in points],
        "faces": len(item.data.polygons),
        "colors": len(set(colors)),
        "shown_by": [(link.from_node.type, link.to_socket.name) for link in links],
    }


def settings_of_render() -> list:
    render = bpy.context.scene.render
    return [render.filepath, render.image_settings.file_format, render.film_transparent,
            render.resolution_x]  # fmt: skip


def mesh(outbox: str) -> dict:
    build_scene()
    told = bpy.context.scene.dna_pipeline
    bpy.context.preferences.addons[PACKAGE].preferences.folder = outbox
    told.inbox, told.size, told.keeps_name = "kept", 128, True
    before, render = set(bpy.data.objects), settings_of_render()
    active = bpy.context.view_layer.objects.active
    sent = send(bpy.ops.dna_pipeline.send_view)
    new = [item for item in bpy.data.objects if item not in before]
    seen = {
        "sent": sent,
        "new": [facts(item) for item in new],
        "is_as_before": settings_of_render() == render
        and bpy.context.view_layer.objects.active == active,
    }
    if new:
        seen["reloaded"] = reload(new[0])
    told.prompt = "a pipeline without img2img cannot heed this"
    image = told.image = painted()
    seen["failed"] = send(bpy.ops.dna_pipeline.send_image)
    seen["image"] = [image.source, image.filepath, image.is_dirty, sorted(bpy.data.images.keys())]
    seen["panel"] = drawn()
    seen |= opened(seen["panel"]["pages"][-1])
    seen["without_glb"] = without_glb()
    return seen


def without_glb() -> dict:
    """What becomes of a result whose formats are others."""
    manifest = {"artifacts": [{"path": "a.obj", "role": "mesh"}]}
    client = import_module(f"{PACKAGE}.client")
    state = client.State("completed", folder=Path("Tower-1"), manifest=manifest)
    task = SimpleNamespace(state=state, is_done=False)
    import_module(f"{PACKAGE}.tasks")._finish(task)
    return {"is_done": task.is_done, **task.state.error}


def drawn() -> dict:
    """What the panel says, and which of its properties are none; without a window to draw in."""
    layout, url = MagicMock(), PropertyMock()
    type(layout.column().operator()).url = url
    import_module(f"{PACKAGE}.panel").Panel.draw(SimpleNamespace(layout=layout), bpy.context)
    shown = [*layout.prop.call_args_list, *layout.box().prop.call_args_list]
    labels = layout.column().label.call_args_list
    return {
        "pages": [call.args[0] for call in url.call_args_list],
        "missing": [call.args[1] for call in shown if not hasattr(*call.args)],
        "shown": len(shown),
        "text": " ".join(call.kwargs["text"] for call in labels),
    }


def opened(page: str) -> dict:
    """What the browser gets of the panel's button."""
    with patch("webbrowser.open") as browser:
        bpy.ops.dna_pipeline.open_page(url=page)
    (call,) = browser.call_args_list
    try:
        bpy.ops.dna_pipeline.open_page(url="file:///etc/passwd")
    except RuntimeError as error:
        return {"opened": call.args[0], "refused": str(error).strip().removeprefix("Error: ")}
    return {"opened": call.args[0], "refused": ""}


def painted() -> bpy.types.Image:
    """An image that is nowhere but in Blender; half red, half clear."""
    bpy.ops.image.new(name="painted", width=64, height=64)
    image = bpy.data.images["painted"]
    image.pixels = [1.0, 0.5, 0.0, 1.0] * 2048 + [0.0, 0.0, 0.0, 0.0] * 2048
    return image


def reload(item) -> dict:
    """Move the object, have another image of its name made, and take the newer mesh."""
    item.location, item.rotation_mode, item.rotation_euler = (7, 8, 9), "XYZ", (0, 0, 1)
    before = facts(item)
    bpy.data.objects["Tower"].scale.z *= 0.5
    outbox = bpy.context.preferences.addons[PACKAGE].preferences.folder
    client = import_module(f"{PACKAGE}.client").Client(outbox)
    results = import_module(f"{PACKAGE}.results")
    pictures = import_module(f"{PACKAGE}.pictures")
    drop = client.send("kept", pictures.view(bpy.context, 128), name="Tower", unique=False)
    state = client.wait(drop, TIMEOUT_S)
    number = len(bpy.data.objects)
    bpy.context.view_layer.objects.active = item
    bpy.ops.dna_pipeline.reload_latest()
    assert results.collection_of(item)
    return {
        "before": before, "after": facts(item), "added": len(bpy.data.objects) - number,
        "state": state.text, "manifest": state.manifest, "meshes": len(bpy.data.meshes),
    }  # fmt: skip


def main() -> None:
    archive, action, *rest = sys.argv[1:]
    seen = {"installed": install(archive)}
    if action == "mesh":
        seen |= mesh(*rest)
    seen["uninstalled"] = uninstall()
    Path(f"{archive}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
