"""What importing the library costs, and what it may know."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import dna_pipeline.providers.triposr

SOURCES = sorted(Path(dna_pipeline.providers.triposr.__file__).parent.glob("*.py"))


def test_the_package_tells_of_each_module() -> None:
    words = re.findall(r"\w+", dna_pipeline.providers.triposr.__doc__ or "")
    assert {path.stem for path in SOURCES} - set(words) == {"__init__"}


def test_importing_the_package_loads_no_numerics() -> None:
    code = (
        "import sys, dna_pipeline.providers.triposr; "
        "print(*{'torch', 'numpy', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_of_the_project_only_meshes_the_base_and_the_seam_are_imported() -> None:
    modules = {
        (path.name, node.module)
        for path in SOURCES
        if path.name not in ("provider.py", "scenes.py")  # the two that stages use
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dna_pipeline")
    }
    assert ("surface.py", "dna_pipeline.providers.triposr.field") in modules
    allowed = ("providers.triposr", "providers.hardware", "media.meshes", "base")
    starts = tuple(f"dna_pipeline.{room}." for room in allowed)
    assert [m for m in modules if not f"{m[1]}.".startswith(starts)] == []


def test_previews_need_no_torch_hungry_network() -> None:
    code = "import sys, dna_pipeline.media.meshes.raster; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
