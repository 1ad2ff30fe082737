"""Packs the Blender extension into a zip that Blender installs. Needs no Blender.

python3 scripts/package_blender.py [--out DIR]

Equal sources give equal bytes.
"""

from __future__ import annotations

import argparse
import re
import zipfile
from pathlib import Path

from environment import escape_unencodable

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "integrations" / "blender"
MANIFEST = "blender_manifest.toml"
FIRST_DAY = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold."""


def contents() -> dict[str, bytes]:
    """Read the files of the extension, by their names in the zip."""
    paths = [SOURCES / MANIFEST, *SOURCES.glob("*.py")]
    paths += [ROOT / "integrations" / "client.py", ROOT / "LICENSE"]
    # A checkout may have other line ends, which would change the zip.
    return {path.name: path.read_bytes().replace(b"\r\n", b"\n") for path in paths}


def package(folder: Path) -> Path:
    """Write the zip into the folder; give its path."""
    files = contents()
    version = re.search(r'^version = "(.+)"$', files[MANIFEST].decode(), re.MULTILINE)
    assert version
    target = folder / f"dna_pipeline-blender-{version[1]}.zip"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, FIRST_DAY)
            entry.create_system = 3  # Unix, on every system
            entry.external_attr = 0o644 << 16
            # Stored without compression, since compressors differ between machines.
            archive.writestr(entry, files[name], zipfile.ZIP_STORED)
    return target


def main() -> None:
    escape_unencodable()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where (%(default)s)")
    print(package(parser.parse_args().out))


if __name__ == "__main__":
    main()
