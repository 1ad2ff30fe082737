"""All views of the page, with what they show, and how a browser comes to see them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from dna_pipeline.base.errors import BlackImage, Failure
from dna_pipeline.base.times import format_time, utcnow
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.tables import Job
from dna_pipeline.media.meshes.gltf import glb
from dna_pipeline.media.video import write_mp4
from tests.guarded_server import guarded, wait_for
from tests.meshes import signpost
from tests.page_client import Browser
from tests.unit.weights import weight_files
from tests.web_server import FACTS, StandIn

TOKEN = "a-token-for-the-views"

CONFIG = """\
version: 1
models:
  sd15: {{provider: diffusers, path: {models}/sd-v1-5-local}}
  absent: {{provider: diffusers, path: models/absent}}
  triposr: {{provider: triposr, path: {models}/triposr-base}}
  matte: {{provider: border_key}}
pipelines:
  restyle: [{{img2img: {{model: sd15, steps: 12}}}}]
  mesh: [{{remove_background: {{}}}}, {{triposr: {{resolution: 48}}}}]
inboxes:
  - {{path: in, name: "product shots of the night shift", pipeline: restyle}}
  - {{path: meshes, pipeline: mesh}}
"""

LONG = "a-very-long-name-of-a-batch-with-all-the-shots-of-the-autumn-catalogue_v012_final_FINAL"
HOSTILE = "<img src=x onerror=alert(1)> \x1b[31m\u202egnp \\ {{ 7 * 7 }} <script>alert(2)</script>"
HOSTILE_NAME = "<img src=x onerror=alert(1)>\x1b[31m\u202egnp.png"
SIZE = (480, 360)


@dataclass(frozen=True, slots=True)
class View:
    """One view of the page.

    Attributes:
        address: with the ids of jobs as `{fields}`.
        scene: the site on which it is.
        act: a script that is run there, such as one that presses a button.
        shown: becomes true when all is there.
        around: what holds while it is looked at.
        status: that of the answer.
    """

    name: str
    address: str
    scene: str = "full"
    act: str = ""
    shown: str = "true"
    around: Callable[[Scene], Any] | None = None
    status: int = 200


@dataclass
class Scene:
    """A server with something to see.

    Attributes:
        ids: ids of its jobs and batches, by short names.
    """

    config: Config
    address: str
    ids: dict[str, str] = field(default_factory=dict[str, str])

    def see(self, browser: Any, view: View) -> None:
        """Open a view in a browser, and wait until all is there."""
        browser.run("window.isLeft = true")
        browser.visit(self.address + view.address.format(**self.ids), "!window.isLeft")
        browser.wait("[...document.images].every((one) => one.complete || one.loading === 'lazy')")
        if view.act:
            browser.run(view.act)
        browser.wait(view.shown)


def press(selector: str) -> str:
    return f"document.querySelector({json.dumps(selector)}).click()"


def has_text(text: str) -> str:
    return f"document.body?.innerText.includes({json.dumps(text)})"


def fill(selector: str, text: str) -> str:
    return f"document.querySelector({json.dumps(selector)}).value = {json.dumps(text)};"


# --- what there is to see ---


def photograph(number: int = 0) -> bytes:
    """A ball before a wall, of another colour for each number."""
    out = io.BytesIO()
    picture = Image.linear_gradient("L").resize(SIZE).convert("RGB")
    colour = ((number * 70 + 200) % 256, (number * 110 + 90) % 256, 120)
    ImageDraw.Draw(picture).ellipse((150, 90, 330, 270), fill=colour)
    picture.save(out, "PNG")
    return out.getvalue()


def film() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder, "film.mp4")
        write_mp4(path, [np.full((64, 64, 3), shade, np.uint8) for shade in (40, 120)], 64, 4)
        return path.read_bytes()


def mesh() -> bytes:
    shape = signpost()
    normals = np.zeros_like(shape.vertices) + np.array([0, 0, 1], np.float32)
    return glb(shape.vertices, normals, shape.faces, name="post", colors=shape.colors)


def result_data() -> Callable[[Job, str], bytes]:
    made = {"mesh": mesh(), "turntable": film(), "preview": photograph(2)}
    return lambda job, role: made.get(role) or photograph(job.seq + 1)


FAILS = "fails"


def failure(job: Job) -> Failure | None:
    if not job.stem.startswith(FAILS):
        return None
    return BlackImage(f"all of its pixels are black {HOSTILE}").failure()


def running_status(scene: Scene) -> dict[str, Any]:
    """What a daemon's status says while one of two jobs runs."""
    now = format_time(utcnow())
    job = {
        "job": scene.ids["waits"], "inbox": "meshes", "name": "waits.png", "attempt": 1,
        "stage": "img2img", "phase": "denoise", "step": 7, "steps": 12, "fraction": 0.58,
        "eta_s": 74.0,
    }  # fmt: skip
    hostile = job | {"job": scene.ids["hostile"], "name": HOSTILE_NAME, "stage": None, "steps": 0}
    waiting = [
        {"inbox": "meshes", "file": HOSTILE_NAME, "reason": f"grows still: {HOSTILE}"},
        {"inbox": "meshes", "file": "chair_left.exr", "reason": "waits until it settles"},
    ]
    inboxes = [each.name for each in scene.config.inboxes]
    return {
        "daemon": {
            "pid": 1, "since": now, "device": "cuda:0", "dtype": "float16",
            "gpu": "NVIDIA GeForce RTX 4090", "memory_bytes": 9 << 30,
            "memory_total_bytes": 24 << 30,
        },
        "running": job, "running_jobs": [job, hostile], "workers": [{"jobs": [job, hostile]}],
        "waiting": waiting,
        "waiting_total": 34, "runnable": 1234, "queue_eta_s": 45_296.0, "config": None,
        "progress": [{"inbox": name, "done": 1066, "total": 12_300, "eta_s": 45_296.0}
                     for name in inboxes],
        "server": None, "loading": None, "written_at": now,
    }  # fmt: skip


@contextmanager
def status_of(scene: Scene, status: dict[str, Any]) -> Generator[None]:
    """Let a daemon's status be this while the block runs."""
    path = scene.config.outbox / "status.json"
    path.write_text(json.dumps(status))
    try:
        yield
    finally:
        path.unlink()


def while_it_runs(scene: Scene) -> Any:
    return status_of(scene, running_status(scene))


@contextmanager
def while_paused(scene: Scene) -> Generator[None]:
    client = Browser(scene.address)
    client.urlencoded("/queue/pause", {"x": ""})
    try:
        yield
    finally:
        client.urlencoded("/queue/resume", {"x": ""})


# --- the sites ---


def lay_out(root: Path, models: Path) -> Config:
    root.mkdir()
    (root / "pipeline.yaml").write_text(CONFIG.format(models=models))
    for folder in ("in", "meshes", "outbox"):
        (root / folder).mkdir()
    return load_config(root / "pipeline.yaml", {})


@contextmanager
def bare(root: Path, models: Path) -> Generator[Scene]:
    """A server with neither a daemon nor a job."""
    config = lay_out(root, models)
    with guarded(config) as address:
        yield Scene(config, address)


@contextmanager
def locked(root: Path, models: Path) -> Generator[Scene]:
    """A server with a token."""
    config = lay_out(root, models)
    with guarded(config, TOKEN) as address:
        yield Scene(config, address)


@contextmanager
def idle(root: Path, models: Path) -> Generator[Scene]:
    """A server beside a daemon that has nothing to do."""
    config = lay_out(root, models)
    with guarded(config) as address, StandIn(config).running():
        yield Scene(config, address)


@contextmanager
def full(root: Path, models: Path) -> Generator[Scene]:
    """A server beside a daemon, with jobs of each kind."""
    config = lay_out(root, models)
    put_extras(config.data)
    with guarded(config) as address, StandIn(config).running() as daemon:
        daemon.data_of, daemon.fails = result_data(), failure
        daemon.facts = FACTS | {
            role: {"width": SIZE[0], "height": SIZE[1]} for role in ("image", "matte", "preview")
        }
        daemon.facts["mesh"] = {"vertices": 2412, "faces": 4820}
        daemon.warnings = [f"a token was cut off: {HOSTILE}"]
        daemon.steps = 1
        scene = Scene(config, address)
        queue_jobs(scene)
        wait_for(lambda: all(job["publish"] == "done" for job in jobs(config)), 60)
        daemon.gate.clear()
        queue_waiting(scene)
        scene.ids |= {Path(job["name"]).stem: job["id"] for job in jobs(config)}
        scene.ids["hostile"] = next(j["id"] for j in jobs(config) if "onerror" in j["name"])
        scene.ids["batch"] = next(job["batch"] for job in jobs(config) if job["batch"])
        yield scene


def put_extras(data: Path) -> None:
    """LoRAs and wildcards beside the models, some with names that are no names."""
    loras = data / "models/loras"
    loras.mkdir(parents=True)
    for name, width in (("clay", 768), ("wide", 2048), (HOSTILE.replace("/", "_")[:60], 768)):
        tensor = f"{weight_files.KOHYA if width == 768 else weight_files.KOHYA_XL}lora_down.weight"
        weight_files.write_safetensors(loras / f"{name}.safetensors", {tensor: (2, width)})
        (loras / f"{name}.json").write_text(json.dumps({"activation text": HOSTILE}))
    (data / "wildcards").mkdir()
    (data / "wildcards/colour.txt").write_text("red\n")


def queue_jobs(scene: Scene) -> None:
    """Drop the images that end at once."""
    client = Browser(scene.address)
    told = json.dumps(HOSTILE)
    drops: list[tuple[str, str, str]] = [
        ("chair.png", "restyle", "img2img: {prompt: a chair of clay, strength: 0.4}\n"),
        ("egg.png", "mesh", "triposr: {resolution: 48, turntable: true}\ntags: [shop]\n"),
        (f"{FAILS}.png", "restyle", "# why is it black?\nimg2img: {strength: 0.9}\n"),
        (HOSTILE_NAME, "restyle",
         f"img2img: {{prompt: {told}}}\ntags: [{told}]\nmeta: {{{told}: {told}}}\n"),
    ]  # fmt: skip
    for number, (name, pipeline, yaml) in enumerate(drops):
        files = [(name, photograph(number)), (f"{name}.yaml", yaml.encode())]
        fields = {"pipeline": pipeline, "token": f"views-{number}"}
        answer = client.drop(files, fields)
        assert answer.status == 200, answer.body.decode()


def queue_waiting(scene: Scene) -> None:
    """Drop images that stay in the queue: one alone, and a batch that is paused."""
    client = Browser(scene.address)
    client.drop([("waits.png", photograph(7))], {"token": "views-waits"})
    client.drop([("stops.png", photograph(8))], {"token": "views-stops"})
    matrix = b"matrix: {img2img.strength: [0.3, 0.6, 0.9]}"
    files = [(f"{LONG}.png", photograph(9)), (f"{LONG}.png.yaml", matrix)]
    client.drop(files, {"token": "views-batch"})
    batch = next(job["batch"] for job in jobs(scene.config) if job["batch"])
    client.urlencoded(f"/batches/{batch}/pause", {"x": ""})
    stops = next(job["id"] for job in jobs(scene.config) if job["name"] == "stops.png")
    client.urlencoded(f"/jobs/{stops}/cancel", {"x": ""})


def jobs(config: Config) -> list[dict[str, Any]]:
    with closing(Queries(config.ledger_path)) as queries:
        return [queries.job(row["id"]) for row in queries.jobs()]


SCENES: dict[str, Callable[[Path, Path], Any]] = {
    "bare": bare, "locked": locked, "idle": idle, "full": full,
}  # fmt: skip

# --- the views ---

WRONG_YAML = fill("#failure-text", "img2img: {strenght: 1}") + press("button[value=check]")
RIGHT_YAML = fill("#failure-text", "img2img: {strength: 0.5}") + press("button[value=check]")
SEND_TO_DROP = (
    "(() => {{ const files = new DataTransfer();"
    " for (const name of {names}) files.items.add(new File([{text}], name));"
    " document.getElementById('files').files = files.files; }})();"
)
MESH_IS_THERE = "!!document.querySelector('model-viewer').loaded"


def _drop(action: str, *names: str, before: str = "") -> str:
    files = SEND_TO_DROP.format(names=json.dumps(names), text=json.dumps("no picture"))
    return before + files + press(f"button[value={action}]")


VIEWS = [
    View("queue-no-daemon", "/", "bare"),
    View("queue-empty", "/", "idle"),
    View("queue-running", "/", around=while_it_runs, shown=has_text("step 7 of 12")),
    View("queue-paused", "/", around=while_paused, shown=has_text("Resume the queue")),
    View("gallery-empty", "/results", "bare"),
    View("gallery", "/results"),
    View("gallery-search", "/results?q=clay"),
    View("gallery-failed", "/results?status=failed"),
    View("gallery-batch", "/results?batch={batch}"),
    View("gallery-nothing", "/results?q=unheard"),
    View("gallery-wrong-day", "/results?day=yesterday", status=400),
    View("result-picture", "/results/{chair}"),
    View("result-mesh", "/results/{egg}", shown=MESH_IS_THERE),
    View("result-hostile", "/results/{hostile}", act=press("details summary")),
    View("result-waits", "/results/{waits}"),
    View("result-cancelled", "/results/{stops}"),
    View("failure", "/results/{fails}"),
    View("failure-wrong", "/results/{fails}/retry", act=WRONG_YAML, shown=has_text("line 1")),
    View("failure-right", "/results/{fails}/retry", act=RIGHT_YAML, shown=has_text("Right.")),
    View("retry-done", "/results/{chair}/retry"),
    View("drop", "/drop"),
    View("drop-mesh", "/drop?pipeline=mesh",
         act="document.querySelectorAll('details').forEach((one) => { one.open = true; })"),
    View("drop-again", "/drop?from={chair}"),
    View("drop-refused", "/drop", act=_drop("check", "a.png", "<b>.png", f"{LONG}.png"),
         shown=has_text("refused")),
    View("drop-wrong-field", "/drop",
         act=_drop("check", "a.png", before=fill("[name='img2img.strength']", "7")),
         shown="!!document.querySelector('[aria-invalid=true]')"),
    View("models-no-daemon", "/models", "bare"),
    View("models", "/models"),
    View("models-loaded", "/models", act=press("form[action='/models/load'] button"),
         shown=has_text("is loaded")),
    View("keys", "/results", act="document.body.dispatchEvent(new KeyboardEvent('keydown', "
         "{key: '?', bubbles: true}))", shown="document.getElementById('keys').open"),
    View("gone", "/results/0123456789abcdef", status=404),
    View("unknown", "/nothing/here", status=404),
    View("unreadable", "/models?load=what", status=422),
    View("login", "/login", "locked"),
    View("login-wrong", "/login", "locked",
         act=fill("#token", "another-token-than-that") + press("form button"),
         shown=has_text("This is not the token"), status=401),
]  # fmt: skip


@contextmanager
def looked_at(scene: Scene, view: View) -> Generator[None]:
    """Have the site as a view needs it."""
    if view.around is None:
        yield
    else:
        with view.around(scene):
            yield
