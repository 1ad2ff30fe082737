"""Fuzzes the entry points for untrusted bytes, guided by the code that each input reaches.

fuzz.py table  tables and job files, from their text to resolved rows; globs
fuzz.py yaml   sidecars and pipeline.yaml, from their text to resolved jobs
fuzz.py image  pictures, from their bytes to the pixels that a stage gets
fuzz.py wire   messages of a worker, from their bytes to events

Needs Atheris (`pip install -e .[fuzz]`), which measures the coverage of each input. A finding is an
exception that is not one of our documented errors, a sentence that is long or could control a
terminal, or an input that takes longer than `--limit` seconds or more than `--memory` MiB. Its
bytes are written to `--work`; repeat it with `--replay FILE` in place of the time. The corpus is
kept there too, and the next run continues from it. Exit status 0 without a finding.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LONGEST_TEXT = 20_000
"""Maximum number of characters in the error text of one input, all lines together."""

INSTRUMENTED = ("dna_pipeline", "PIL")
MAX_PIXELS = 1 << 21
"""Fewer than the program accepts, since many pixels reach no more code than a few."""

Door = tuple[Callable[[bytes], None], list[bytes]]


class Finding(AssertionError):
    """Says that an input broke a rule of the fuzzer."""


def check_text(text: str) -> None:
    """Check an error text for files and terminals: it must be short, with printable lines."""
    if len(text) > LONGEST_TEXT:
        raise Finding(f"a fault told in {len(text)} characters: {text[:200]}")
    if not all(line.isprintable() for line in text.split("\n")):
        raise Finding(f"a fault that could steer a terminal: {text!r}")


# --- doors ---


def yaml_door(folder: Path) -> Door:
    from dna_pipeline.base.errors import ConfigError, JobError
    from dna_pipeline.config.image_paths import places
    from dna_pipeline.config.loader import load_config
    from dna_pipeline.config.sidecar import parse_sidecar, resolve

    template = ROOT / "dna_pipeline/interfaces/cli/templates/pipeline.yaml"
    config = load_config(template, {})
    file = folder / "pipeline.yaml"

    def as_sidecar(data: bytes) -> None:
        for inbox in config.inboxes:
            document = parse_sidecar(data)
            if isinstance(document.value.get("image"), str):
                for place in places(inbox, "sub", document.value["image"]):
                    if place.path.startswith("/") or ".." in place.path.split("/"):
                        raise Finding(f"the path {place.path!r} leads out")
            spec = resolve(config, inbox, document, lambda: 1)
            params = [stage.params for stage in spec.stages]
            json.dumps([params, spec.meta, spec.tags], allow_nan=False).encode()

    def as_configuration(data: bytes) -> None:
        file.write_bytes(data)
        load_config(file, {})

    def read(data: bytes) -> None:
        for way in (as_sidecar, as_configuration):
            try:
                way(data)
            except (JobError, ConfigError) as error:
                check_text(str(error).replace(str(file), "F"))

    return read, [template.read_bytes(), *SIDECARS]


SIDECARS = [
    b"img2img: {prompt: a cat, strength: 0.6, seed: -1, denoise: 0.5}\npriority: 5\n",
    b"image: sub/cat.png\npipeline: mesh\ntags: [a, b]\nmeta: {x: [1, 2.5, ~, true]}\n",
    b"triposr: &t {resolution: 64, formats: [glb, obj]}\nmeta: {again: *t}\n",
    b"not_before: 2026-12-01T22:00:00+01:00\nseed: 0x1f\nremove_background: ~\n",
    'prompt: "\\u263a \\x1b[31m"\r\n? key\n: |-\n  text\n'.encode("utf-16"),
]


def table_door(_folder: Path) -> Door:
    from dna_pipeline.base.errors import JobError
    from dna_pipeline.config.loader import load_config
    from dna_pipeline.config.tables import parse_table

    config = load_config(ROOT / "dna_pipeline/interfaces/cli/templates/pipeline.yaml", {})

    def as_table(name: str, data: bytes) -> None:
        check_rows(config, parse_table(config.pipelines, name, data).rows[:20])

    def read(data: bytes) -> None:
        ways = (partial(as_table, "t.csv"), partial(as_table, "t.jsonl"), check_job_file)
        for way in ways:
            try:
                way(data)
            except JobError as error:
                check_text(str(error))

    return read, TABLES


def check_rows(config: Any, cells: list[Any]) -> None:
    """Resolve the rows of a table. Raises JobError for the first that cannot be resolved."""
    from dna_pipeline.config.batch import request_text, rows_of_table
    from dna_pipeline.config.image_paths import places
    from dna_pipeline.config.sidecar import parse_sidecar, resolve

    inbox = config.inboxes[0]
    for row in rows_of_table(cells, None):
        if row.error is not None:
            check_text(str(row.error))
            continue
        places(inbox, "", row.image or "")
        resolve(config, inbox, row.document, lambda: 1)
        if parse_sidecar(request_text(row.document).encode()).value != row.document.value:
            raise Finding(f"a retry would not say {row.document.value!r}")


def check_job_file(data: bytes) -> None:
    """Read a job file. Raises JobError if the bytes are none."""
    from dna_pipeline.config.batch import patterns_of, rows_of_job_file
    from dna_pipeline.config.image_paths import matches, may_lead
    from dna_pipeline.config.sidecar import parse_sidecar

    document = parse_sidecar(data)
    patterns = patterns_of(document)[:20]
    for pattern in patterns:
        for path in ("a" * 200, "a/" * 60 + "a.png", "chairs/chair_1.png"):
            matches(path, pattern)
            may_lead(path, pattern)
    rows_of_job_file(document, patterns)


TABLES = [
    b'image,img2img.prompt,tags,meta.x,seed\r\na.png,"a, ""b""",x;y,1e3,-1\r\n',
    b'{"image": "a.png", "img2img": {"prompt": "\\ud83d\\ude00"}, "meta.x": [1]}\n{"image": 1',
    'image;priority;meta.x\n\u00e9.png;;"\x7f \x85 \u2028"\n'.encode("utf-16"),
    b'images: ["*a*a*a*a*a*a*a*a*b", "**/a/**/*a*/**/b", "[!a-c]?.png"]\nmatrix: {seed: [1, 2]}\n',
]


def image_door(folder: Path) -> Door:
    from PIL import Image

    from dna_pipeline.base.errors import ImageTooLarge, ImageTooSmall, ImageUnreadable
    from dna_pipeline.media import images
    from dna_pipeline.media.formats import picture_files

    picture_files.MAX_PIXELS = MAX_PIXELS
    file = folder / "picture"

    def read(data: bytes) -> None:
        file.write_bytes(data)
        try:
            picture = images.probe(file)
            image = images.load_image(file)
        except (ImageTooLarge, ImageTooSmall, ImageUnreadable) as error:
            check_text(json.dumps(error.detail))
            return
        if image.size != (picture.width, picture.height) or image.mode not in ("RGB", "RGBA"):
            raise Finding(f"{picture} became {image.mode} {image.size}")

    return read, list(_pictures(Image, images.FORMATS))


def _pictures(pillow: Any, formats: tuple[str, ...]) -> Iterator[bytes]:
    ramp = pillow.linear_gradient("L").resize((24, 20))
    colour = pillow.merge("RGB", (ramp, ramp.rotate(90), ramp.rotate(180)))
    modes = ("RGB", "RGBA", "L", "P", "1", "I;16")
    seeds: list[tuple[str, str, dict[str, Any]]]
    seeds = [(kind, mode, {}) for kind in formats for mode in modes]
    seeds += [("TIFF", "RGB", {"compression": c}) for c in ("tiff_lzw", "jpeg", "tiff_deflate")]
    seeds += [("TIFF", "CMYK", {}), ("JPEG", "CMYK", {}), ("JPEG", "RGB", {"progressive": True})]
    several = {"save_all": True, "append_images": [colour.rotate(9), colour.rotate(40)]}
    seeds += [(kind, "RGB", several) for kind in ("GIF", "PNG", "WEBP", "TIFF")]
    exif = pillow.Exif()
    exif[0x0112] = 6
    seeds += [(kind, "RGB", {"exif": exif}) for kind in ("JPEG", "PNG", "TIFF", "WEBP")]
    for kind, mode, options in seeds:
        buffer = io.BytesIO()
        with suppress(OSError, ValueError, KeyError):  # not each format takes each mode
            (ramp if mode == "I;16" else colour).convert(mode).save(buffer, kind, **options)
            yield buffer.getvalue()


def pipe_door(_folder: Path) -> Door:
    from dna_pipeline.base import ipc
    from dna_pipeline.execution import protocol

    events: list[protocol.Event] = [
        protocol.WorkerReady("cpu", "float32", {"gpu": None}),
        protocol.ModelsLoaded((protocol.LoadedModel("sd15", "loaded", "cpu", "2026-12-01"),)),
        protocol.Phase("j", "img2img", "running", 30.0),
        protocol.Progress("j", "img2img", 1, 20, 0.05),
        protocol.JobFailed("j", {"code": "c", "message": "m", "detail": "d"}, "img2img"),
        protocol.JobDone("j"),
        protocol.StageDone(
            "j", "img2img", "img2img", "diffusers", {"name": "m"}, {"seed": 1}, "cpu", "float32",
            1, 2.5, ["w"], {"torch": "2"},
            [protocol.FileRecord("a.png", "image", "image/png", 5, "0" * 64)], "1" * 64,
        ),
    ]  # fmt: skip

    def read(data: bytes) -> None:
        try:
            for message in ipc.messages(io.BytesIO(data)):
                event = protocol.event_from_message(message)
                json.dumps(protocol.event_to_message(event), allow_nan=False)
        except ipc.PipeError as error:
            check_text(str(error))

    lines = [json.dumps(protocol.event_to_message(event)).encode() + b"\n" for event in events]
    return read, [*lines, b"".join(lines)]


DOORS: dict[str, Callable[[Path], Door]] = {
    "yaml": yaml_door,
    "table": table_door,
    "image": image_door,
    "wire": pipe_door,
}


# --- mutating ---


def mended_png(data: bytes) -> bytes:
    """Correct the checksums of all chunks, or the decoder would reject every mutation at once."""
    out, place = bytearray(data[:8]), 8
    while len(head := data[place : place + 8]) == 8:
        size = struct.unpack(">I", head[:4])[0]
        body = data[place + 8 : place + 8 + size]
        out += struct.pack(">I", len(body)) + head[4:] + body
        out += struct.pack(">I", zlib.crc32(head[4:] + body))
        place += 12 + size
    return bytes(out)


def png_mutator(atheris: Any) -> Callable[[bytes, int, int], bytes]:
    def mutate(data: bytes, most: int, seed: int) -> bytes:
        changed: bytes = atheris.Mutate(data, most)
        is_png = changed.startswith(b"\x89PNG\r\n\x1a\n")
        return mended_png(changed)[:most] if is_png and seed % 4 else changed

    return mutate


def dictionary(door: str) -> list[str]:
    """List words that random mutation would take long to find."""
    from dna_pipeline.execution import protocol
    from dna_pipeline.stages import registry

    if door == "wire":
        words = {name for kind in vars(protocol).values() if hasattr(kind, "kind")
                 for name in (kind.kind, *kind.__dataclass_fields__)}  # fmt: skip
        return [*sorted(words), "NaN", "1e999", "null", "\\\\ud800"]
    if door == "image":
        return ["IHDR", "PLTE", "tRNS", "iCCP", "zTXt", "iTXt", "eXIf", "acTL", "fcTL", "fdAT",
                "IDAT", "IEND", "VP8X", "VP8L", "ALPH", "ANIM", "ANMF", "ICCP", "EXIF", "ftypavif",
                "NETSCAPE2.0", "II*\\x00", "MM\\x00*", "Exif\\x00\\x00", "ICC_PROFILE\\x00",
                "Adobe\\x00", "MPF\\x00"]  # fmt: skip
    stages = [registry.stage_class(name) for name in registry.stage_types()]
    keys = {key for stage in stages for key in (*stage.model_fields, *stage.aliases)}
    keys |= {*registry.stage_types(), *registry.provider_names(), "image", "images", "matrix",
             "pipeline", "priority", "not_before", "meta", "tags", "paths", "runtime", "retention",
             "models", "inboxes", "hours", "defaults", "version", "pipelines"}  # fmt: skip
    return [*sorted(keys), "!!python/object:os.system", "&a", "*a", "<<", ".nan", ".inf",
            "\\xff\\xfe", "\\x1b[31m", "\\xe2\\x80\\xae", "..", "C:\\\\x", "\\\\uD800"]  # fmt: skip


# --- running ---


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("door", choices=DOORS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--limit", type=int, default=10, help="seconds for one input")
    parser.add_argument("--memory", type=int, default=2048, help="MiB in all")
    parser.add_argument("--work", type=Path, help="where inputs and findings are kept")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run this one input")
    return parser.parse_args()


def options(args: argparse.Namespace, work: Path, seeds: list[bytes]) -> list[str]:
    """Build libFuzzer's options; write the seeds and the dictionary to the paths in them."""
    findings, corpus = work / "findings", work / "corpus"
    for folder in (findings, corpus):
        folder.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(seeds):
        (corpus / f"seed-{index}").write_bytes(seed)
    words = work / "words.txt"
    words.write_text("".join(f'"{word}"\n' for word in dictionary(args.door)))
    if args.replay:
        return [str(args.replay), f"-timeout={args.limit}"]
    return [
        str(corpus), f"-artifact_prefix={findings}/", f"-dict={words}", f"-timeout={args.limit}",
        f"-rss_limit_mb={args.memory}", f"-max_total_time={args.seconds}", "-max_len=8192",
        "-print_final_stats=1",
    ]  # fmt: skip


def main() -> None:
    args = arguments()
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        sys.exit("fuzz.py needs Atheris: pip install -e .[fuzz]")
    sys.path.insert(0, str(ROOT))
    work = (args.work or Path(tempfile.gettempdir(), "dna-fuzz", args.door)).absolute()
    work.mkdir(parents=True, exist_ok=True)
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as home:
        with atheris.instrument_imports(include=list(INSTRUMENTED), enable_loader_override=False):
            read, seeds = DOORS[args.door](Path(home))
        more = {"custom_mutator": png_mutator(atheris)} if args.door == "image" else {}
        atheris.Setup([sys.argv[0], *options(args, work, seeds)], read, **more)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
