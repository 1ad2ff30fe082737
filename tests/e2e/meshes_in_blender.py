"""Runs inside Blender's Python: imports meshes as a user does, tells what is there, exports them.

python meshes_in_blender.py FOLDER
"""

import json
import sys
from pathlib import Path

import bpy

IMPORTERS = {
    ".glb": bpy.ops.import_scene.gltf,
    ".obj": bpy.ops.wm.obj_import,
    ".ply": bpy.ops.wm.ply_import,
    ".stl": bpy.ops.wm.stl_import,
}


def told(path: Path) -> dict:
    """What an import with all options as they come has brought into an empty scene."""
    bpy.ops.wm.read_homefile(use_empty=True)
    IMPORTERS[path.suffix](filepath=str(path))
    (item,) = bpy.data.objects
    bpy.context.view_layer.update()
    mesh = item.data
    recipe = mesh.get("dna_pipeline")
    return {
        "points": [list(item.matrix_world @ vertex.co) for vertex in mesh.vertices],
        "normals": [list(item.matrix_world.to_3x3() @ n.vector) for n in mesh.vertex_normals],
        "faces": [list(face.vertices) for face in mesh.polygons],
        "colors": [[list(c.color_srgb)[:3] for c in a.data] for a in mesh.color_attributes],
        "uvs": [[list(uv.vector) for uv in layer.uv] for layer in mesh.uv_layers],
        "corners": [loop.vertex_index for loop in mesh.loops],
        "material": material(mesh),
        "images": {
            image.name: {
                "space": image.colorspace_settings.name,
                "size": list(image.size),
                "pixels": list(image.pixels),
            }
            for image in bpy.data.images
            if image.size[0]
        },
        "recipe": recipe.to_dict() if recipe is not None else None,
    }


def material(mesh: bpy.types.Mesh) -> dict:
    """What feeds the surface's colour, and how it shines."""
    if not mesh.materials:
        return {}
    (one,) = mesh.materials
    shader = next(n for n in one.node_tree.nodes if n.type == "BSDF_PRINCIPLED")
    links = shader.inputs["Base Color"].links
    return {
        "base_color": links[0].from_node.type if links else None,
        "roughness": shader.inputs["Roughness"].default_value,
        "metallic": shader.inputs["Metallic"].default_value,
    }


def main() -> None:
    folder = Path(sys.argv[1])
    seen = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in IMPORTERS:
            seen[path.name] = told(path)
            if path.suffix == ".glb":
                bpy.ops.export_scene.gltf(filepath=str(folder / "again" / path.name))
    (folder / "seen.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
