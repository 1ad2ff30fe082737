"""pipeline.yaml: what it may say, and what a person is told who got it wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import time
from pathlib import Path
from types import ModuleType
from zoneinfo import ZoneInfo

import pytest

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.hours import Hours
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import SUBMIT_INBOX, Config, Inbox, StageSpec
from dna_pipeline.stages import registry

Read = Callable[..., Config]

HEAD = """\
version: 1
models:
  sd15: {provider: diffusers, path: sd}
  sculptor: {provider: triposr, path: tsr}
  matte: {provider: rembg}
"""


@pytest.fixture
def told(tmp_path: Path, read: Read):
    """The lines that a person is told, without the file's name that begins each."""

    def told(text: str, **env: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            read(text, **env)
        start = f"{tmp_path}/pipeline.yaml: "
        lines = str(caught.value).splitlines()
        assert all(line.startswith(start) for line in lines)
        return [line.removeprefix(start).replace(str(tmp_path), "HERE") for line in lines]

    return told


def pipelines(*lines: str) -> str:
    return HEAD + "pipelines:\n" + "".join(f"  {line}\n" for line in lines)


def inboxes(*entries: str) -> str:
    start = pipelines("restyle: [{img2img: {}}]", "mesh: [{remove_background: {}}, {triposr: {}}]")
    return start + "inboxes:\n" + "".join(f"  - {{{entry}}}\n" for entry in entries)


# --- the contract's example ---


def test_the_example(tmp_path: Path, read: Read, example: str):
    config = read(example)
    assert (config.data, config.outbox) == (tmp_path / "data", tmp_path / "outbox")
    assert config.file == tmp_path / "pipeline.yaml"
    assert config.ledger_path == tmp_path / "data" / "ledger.db"
    assert config.runtime.model_dump() == {
        "device": "auto",
        "threads_per_worker": None,
        "dtype": "auto",
        "max_attempts": 3,
        "stage_timeout_s": 1800,
        "idle_unload_s": 0,
        "jobs_per_worker": 3,
        "batch_size": 1,
        "model_window_s": 300,
        "pause_after_failures": 5,
        "preload": [],
        "executor": "local",
        "ray": {"address": "auto", "workers": 1, "work_dir": "shared"},
    }
    assert list(config.models) == ["sd15", "triposr", "matte"]
    assert config.models["sd15"].path == tmp_path / "data/models/sd-v1-5-local"
    assert list(config.pipelines) == ["restyle", "mesh", "restyle_to_mesh"]
    assert config.pipelines["restyle"].stages == (
        StageSpec("img2img", "img2img", {"model": "sd15", "steps": 20}),
    )
    assert [stage.id for stage in config.pipelines["restyle_to_mesh"].stages] == [
        "img2img",
        "remove_background",
        "triposr",
    ]
    restyle = Inbox("restyle", tmp_path / "inbox/restyle", "restyle")
    mesh = Inbox(
        "mesh",
        tmp_path / "inbox/mesh",
        "mesh",
        originals="keep",
        on_change="latest",
        latest=True,
    )
    assert config.inboxes == (restyle, mesh)
    assert config.inbox("mesh") is config.inboxes[1]
    assert config.inbox("nowhere") is None
    assert config.inbox(SUBMIT_INBOX).pipeline == "restyle"


def test_every_key_of_an_inbox(tmp_path: Path, read: Read):
    config = read(
        inboxes(
            "path: a/b, name: Cats, pipeline: mesh, originals: delete, on_change: all,"
            " existing: ignore, sidecar: required, sidecar_wait_seconds: 7, recursive: true,"
            " settle_seconds: 0.5, rescan_seconds: 10, watch: poll, include: ['*.png'],"
            " ignore: ['x*'], priority: -3, defaults: {triposr: {mc_resolution: 64}}, latest: true,"
            " hours: 22:00-6:00 Europe/Berlin"
        )
    )
    assert config.inboxes == (
        Inbox(
            name="Cats",
            path=tmp_path / "a/b",
            pipeline="mesh",
            originals="delete",
            on_change="all",
            existing="ignore",
            sidecar_required=True,
            sidecar_wait_s=7,
            recursive=True,
            settle_s=0.5,
            rescan_s=10,
            watch="poll",
            include=("*.png",),
            ignore=("x*",),
            priority=-3,
            defaults={"triposr": {"mc_resolution": 64}},
            latest=True,
            hours=Hours(time(22), time(6), ZoneInfo("Europe/Berlin")),
        ),
    )


def test_defaults_that_depend_on_other_keys(read: Read):
    plain, keep, all_, required, quick = read(
        inboxes(
            "path: a, pipeline: mesh",
            "path: b, pipeline: mesh, originals: keep",
            "path: c, pipeline: mesh, originals: keep, on_change: all, latest: false",
            "path: d, pipeline: mesh, sidecar: required",
            "path: e, pipeline: mesh, sidecar: required, sidecar_wait_seconds: 0",
        )
    ).inboxes
    assert (plain.on_change, plain.latest, plain.keeps) == ("all", False, False)
    assert (keep.on_change, keep.latest, keep.keeps) == ("latest", True, True)
    assert (all_.on_change, all_.latest) == ("all", False)
    assert [box.sidecar_wait_s for box in (plain, required, quick)] == [5, 3600, 0]


def test_the_least(read: Read, tmp_path: Path):
    config = read("version: 1\npipelines: {cut: [{remove_background: {model: m}}]}\n"
                  "models: {m: {provider: rembg}}\npaths:\nruntime:\ninboxes:\n")  # fmt: skip
    assert config.inboxes == ()
    assert config.data == tmp_path / "data"
    assert config.runtime.stage_timeout_s == 1800


# --- folders ---


def test_paths_are_relative_to_the_file_and_models_to_data(
    tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir("/")
    config = read(
        "paths: {data: ../d, outbox: /results}\n" + inboxes("path: ./in/../in2, pipeline: mesh")
    )
    assert config.data == tmp_path.parent / "d"
    assert config.outbox == Path("/results")
    assert config.inboxes[0].path == tmp_path / "in2"
    assert config.inboxes[0].name == "in2"
    assert config.models["sd15"].path == tmp_path.parent / "d/sd"


def test_the_environment_comes_before_the_file(
    tmp_path: Path, read: Read, example: str, monkeypatch: pytest.MonkeyPatch
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    config = read(example, DNA_DATA_DIR="d", DNA_OUTPUT_DIR="/out/./x")
    assert config.data == elsewhere / "d"
    assert config.outbox == Path("/out/x")
    assert config.models["triposr"].path == elsewhere / "d/models/triposr-base"
    assert read(example, DNA_DATA_DIR="", DNA_OUTPUT_DIR="").data == tmp_path / "data"


def test_a_relative_file_still_gives_absolute_paths(
    tmp_path: Path, example: str, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "here.yaml").write_text(example)
    monkeypatch.chdir(tmp_path)
    config = load_config(Path("here.yaml"), {})
    assert config.file == tmp_path / "here.yaml"
    assert config.inboxes[0].path == tmp_path / "inbox/restyle"


def test_home(tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "me"))
    config = read(inboxes("path: ~/pictures, pipeline: mesh"))
    assert config.inboxes[0].path == tmp_path / "me/pictures"


def test_overlaps(told):
    text = "paths: {data: all/data, outbox: all/out}\n" + inboxes(
        "path: all/out/x, pipeline: mesh",
        "path: in, pipeline: mesh",
        "path: in/../in/deep, pipeline: mesh",
        "path: in2, pipeline: mesh",
        "path: all, pipeline: mesh",
    )
    apart = "; keep them apart"
    assert told(text) == [
        f"line 11: inboxes[0].path: HERE/all/out/x overlaps paths.outbox (HERE/all/out){apart}",
        f"line 13: inboxes[2].path: HERE/in/deep overlaps inboxes[1].path (HERE/in){apart}",
        f"line 15: inboxes[4].path: HERE/all overlaps paths.data (HERE/all/data){apart}",
        f"line 15: inboxes[4].path: HERE/all overlaps paths.outbox (HERE/all/out){apart}",
        f"line 15: inboxes[4].path: HERE/all overlaps inboxes[0].path (HERE/all/out/x){apart}",
    ]


def test_overlaps_of_what_the_file_does_not_name(told):
    assert told(inboxes("path: data/in, pipeline: mesh")) == [
        "line 10: inboxes[0].path: HERE/data/in overlaps paths.data (HERE/data); keep them apart"
    ]
    data = str(Path("/same"))
    assert told(inboxes(), DNA_DATA_DIR=data, DNA_OUTPUT_DIR=data) == [
        "$DNA_OUTPUT_DIR: /same overlaps $DNA_DATA_DIR (/same); keep them apart"
    ]


def test_an_inbox_cannot_hold_the_file_itself(told, tmp_path: Path):
    holds = "this folder holds pipeline.yaml itself, which would be taken for a sidecar"
    env = {"DNA_DATA_DIR": "/d", "DNA_OUTPUT_DIR": "/o"}
    expected = [f"line 10: inboxes[0].path: {holds}; watch another folder"]
    assert told(inboxes("path: ., pipeline: mesh"), **env) == expected
    assert told(inboxes("path: .., pipeline: mesh, recursive: true"), **env) == expected


def test_an_inbox_above_the_file_that_does_not_look_below(read: Read):
    env = {"DNA_DATA_DIR": "/d", "DNA_OUTPUT_DIR": "/o"}
    assert len(read(inboxes("path: .., pipeline: mesh"), **env).inboxes) == 1


def test_names_of_inboxes(told, cases):
    table = cases(
        r"""
    path: x/cats
        inboxes[1].path: another inbox is called 'cats'; set another `name`
    path: x/CATS
        inboxes[1].path: another inbox is called 'CATS'; set another `name`
    path: x, name: Cats
        inboxes[1].name: another inbox is called 'Cats'; set another `name`
    path: submit
        inboxes[1].path: the name 'submit' is taken by the program; set another `name`
    path: x, name: Status.json
        inboxes[1].name: the name 'Status.json' is taken by the program; set another
        `name`
    path: x, name: a/b
        inboxes[1].name: 'a/b' cannot be a folder's name everywhere; 'a_b' can
    path: x, name: ..
        inboxes[1].name: '..' cannot be a folder's name everywhere; 'unnamed' can
    path: x, name: con
        inboxes[1].name: 'con' cannot be a folder's name everywhere; '_con' can
    path: x, name: ''
        inboxes[1].name: should not be empty
    """
    )
    for entry, message in table.items():
        text = inboxes("path: cats, pipeline: mesh", f"{entry}, pipeline: mesh")
        assert told(text) == [f"line 11: {message}"]


def test_a_folder_whose_name_is_no_safe_one_lends_a_safe_one(read: Read):
    (inbox,) = read(inboxes('path: "dir: 1 ", pipeline: mesh')).inboxes
    assert inbox.name == "dir_ 1"
    assert inbox.path.name == "dir: 1 "


# --- files that are none ---


def test_no_file(tmp_path: Path):
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "pipeline.yaml", {})
    assert str(caught.value) == (
        f"{tmp_path}/pipeline.yaml: there is no such file; "
        "`dna-pipeline init` writes one, --config names another"
    )


def test_a_folder(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be read: "):
        load_config(tmp_path, {})


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ["the file is empty; `dna-pipeline init` writes one"]),
        ("# only a comment", ["the file is empty; `dna-pipeline init` writes one"]),
        ("[1]", ["line 1: should be a mapping, not a list"]),
        ("\nhello", ["line 1: should be a mapping, not 'hello'"]),
        ("a: 1\na: 2", ["line 2: the key 'a' stands here twice, first in line 1; keep one"]),
        (
            "{}",
            ["line 1: the key 'version' is missing", "line 1: the key 'pipelines' is missing"],
        ),
        (
            "version: 2\npipelines: {}",
            [
                "line 1: version: should be 1, not 2",
                "line 2: pipelines: at least one pipeline is needed",
            ],
        ),
        (
            "version: true\npipelines:",
            [
                "line 1: version: should be a whole number, not true",
                "line 2: pipelines: should be a mapping, not null",
            ],
        ),
    ],
)
def test_not_a_pipeline_file(told, text: str, lines: list[str]):
    assert told(text) == lines


# --- keys and values ---


def test_one_wrong_line(told, cases):
    table = cases(
        r"""
    path: {}
        unknown key 'path'; did you mean 'paths'?
    Runtime: {}
        unknown key 'Runtime'; did you mean 'runtime'?
    xyz: 1
        unknown key 'xyz'; known here: c2pa, inboxes, metadata, metrics, models, notify, paths,
        pipelines, retention, reuse, runtime, serve, version
    paths: {outbx: o}
        unknown key 'paths.outbx'; did you mean 'outbox'?
    paths: {data: 5}
        paths.data: should be a path, not 5
    paths: {data: ''}
        paths.data: should not be empty; `.` is the folder of pipeline.yaml
    paths: 5
        paths: should be a mapping, not 5
    runtime: {devise: cpu}
        unknown key 'runtime.devise'; did you mean 'device'?
    runtime: {device: gpu}
        runtime.device: should be auto, cpu, mps, cuda or cuda:N, or a list of devices, not 'gpu'
    runtime: {device: 'cuda:'}
        runtime.device: should be auto, cpu, mps, cuda or cuda:N, or a list of devices, not 'cuda:'
    runtime: {device: []}
        runtime.device: should list from 1 to 64 devices
    runtime: {device: [cuda:0, auto]}
        runtime.device: should list cpu, cuda or cuda:N, not 'auto'
    runtime: {device: [cuda, cpu, cuda:0]}
        runtime.device: lists cuda:0 twice; two workers would share its memory
    runtime: {executor: ray}
        runtime: `device` should be cuda or cpu with `executor: ray`, so that Ray knows
        what a worker takes; `ray.workers` says how many there are
    runtime: {executor: ray, device: [cpu, cpu]}
        runtime: `device` should be cuda or cpu with `executor: ray`, so that Ray knows
        what a worker takes; `ray.workers` says how many there are
    runtime: {ray: {address: somewhere}}
        runtime.ray.address: should be auto, or HOST:PORT of the cluster's head, not 'somewhere'
    runtime: {ray: {workers: 0}}
        runtime.ray.workers: should be from 1 to 64, not 0
    runtime: {ray: {workdir: shared}}
        unknown key 'runtime.ray.workdir'; did you mean 'work_dir'?
    runtime: {dtype: float61}
        runtime.dtype: should be 'auto', 'float32', 'float16' or 'bfloat16', not
        'float61'; did you mean 'float16'?
    runtime: {max_attempts: 0}
        runtime.max_attempts: should be from 1 to 100, not 0
    runtime: {max_attempts: true}
        runtime.max_attempts: should be a whole number from 1 to 100, not true
    runtime: {max_attempts: 3.0}
        runtime.max_attempts: should be a whole number from 1 to 100, not 3.0; write 3
    runtime: {max_attempts: '3'}
        runtime.max_attempts: should be a whole number from 1 to 100, not '3'; write 3,
        in plain digits and without quotes
    runtime: {stage_timeout_s: 0}
        runtime.stage_timeout_s: should be more than 0, not 0
    runtime: {stage_timeout_s: .inf}
        runtime.stage_timeout_s: should be a finite number, not .inf
    runtime: {idle_unload_s: -.inf}
        runtime.idle_unload_s: should be a finite number, not -.inf
    runtime: {idle_unload_s: .nan}
        runtime.idle_unload_s: should be a finite number, not .nan
    runtime: {idle_unload_s: -1}
        runtime.idle_unload_s: should be from 0 to 2592000, not -1
    inboxes: {}
        inboxes: should be a list, not a mapping
    inboxes: [cats]
        inboxes[0]: should be a mapping, not 'cats'
    inboxes: [{pipeline: mesh}]
        the key 'inboxes[0].path' is missing
    inboxes: [{path: in}]
        the key 'inboxes[0].pipeline' is missing
    """
    )
    for line, message in table.items():
        assert told(inboxes().replace("inboxes:\n", line)) == [f"line 9: {message}"]


def test_one_wrong_key_of_an_inbox(told, cases):
    table = cases(
        r"""
    pipeline: mush
        inboxes[0].pipeline: no pipeline is called 'mush'; did you mean 'mesh'?
    pipeline: 5
        inboxes[0].pipeline: should be text, not 5; put it in quotes
    pipeline: mesh, colour: 5
        unknown key 'inboxes[0].colour'; similar ones: hours; docs/reference.md lists all 24 that
        are known here
    pipeline: mesh, hours: 22-6
        inboxes[0].hours: should be two times like "22:00-06:00", not '22-6'
    pipeline: mesh, hours: 22:00-25:00
        inboxes[0].hours: should be two times from 00:00 to 24:00, not '22:00-25:00'
    pipeline: mesh, hours: 22:00-22:00
        inboxes[0].hours: should be two different times, not '22:00-22:00'
    pipeline: mesh, hours: 22:00-06:00 Europe/Berln
        inboxes[0].hours: no time zone is called 'Europe/Berln'; did you mean 'Europe/Berlin'?
    pipeline: mesh, Settle_second: 5
        unknown key 'inboxes[0].Settle_second'; did you mean 'settle_seconds'?
    pipeline: mesh, originals: archiv
        inboxes[0].originals: should be 'archive', 'delete' or 'keep', not 'archiv'; did
        you mean 'archive'?
    pipeline: mesh, sidecar: yes
        inboxes[0].sidecar: should be 'optional' or 'required', not 'yes'
    pipeline: mesh, sidecar: true
        inboxes[0].sidecar: should be 'optional' or 'required', not true
    pipeline: mesh, recursive: no
        inboxes[0].recursive: should be true or false, not 'no'; write false
    pipeline: mesh, settle_seconds: -1
        inboxes[0].settle_seconds: should be from 0 to 2592000, not -1
    pipeline: mesh, settle_seconds: 2s
        inboxes[0].settle_seconds: should be a number from 0 to 2592000, not '2s'; write 2
    pipeline: mesh, sidecar_wait_seconds: -1
        inboxes[0].sidecar_wait_seconds: should be from 0 to 2592000, not -1
    pipeline: mesh, rescan_seconds: 0
        inboxes[0].rescan_seconds: should be more than 0 and at most 86400, not 0
    pipeline: mesh, priority: 1e3
        inboxes[0].priority: should be a whole number from -1000000 to 1000000, not 1000.0;
        write 1000
    pipeline: mesh, priority: 99999999999999999999999
        inboxes[0].priority: should be from -1000000 to 1000000, not
        99999999999999999999999
    pipeline: mesh, include: '*.png'
        inboxes[0].include: should be a list, not '*.png'; write ["*.png"]
    pipeline: mesh, include: [5]
        inboxes[0].include[0]: should be text, not 5; put it in quotes
    pipeline: mesh, defaults: [a]
        inboxes[0].defaults: should be a mapping, not a list
    pipeline: mesh, defaults: {triposr: 5}
        inboxes[0].defaults.triposr: should be a mapping of parameters to values, not 5
    pipeline: mesh, defaults: {tripsr: {}}
        unknown key 'inboxes[0].defaults.tripsr'; did you mean 'triposr'?
    pipeline: mesh, defaults: {decimate: {}}
        unknown key 'inboxes[0].defaults.decimate'; known here: img2img,
        remove_background, triposr
    pipeline: mesh, defaults: {triposr: {mc_res: 5}}
        unknown key 'inboxes[0].defaults.triposr.mc_res'; did you mean 'mc_resolution'?
    pipeline: mesh, defaults: {triposr: {mc_resolution: 5}}
        inboxes[0].defaults.triposr.mc_resolution: should be from 16 to 512, not 5
    pipeline: mesh, defaults: {triposr: {threshold: .inf}}
        inboxes[0].defaults.triposr.threshold: should be a finite number, not .inf
    pipeline: mesh, defaults: {triposr: {low: 11}}
        inboxes[0].defaults.triposr: low is above high
    pipeline: mesh, defaults: {triposr: {model: sd15}}
        inboxes[0].defaults.triposr.model: the model 'sd15' is not one for triposr; known
        here: sculptor
    pipeline: mesh, defaults: {img2img: {model: sd16}}
        inboxes[0].defaults.img2img.model: no model is called 'sd16'; did you mean 'sd15'?
    pipeline: restyle, defaults: {img2img: {steps: 1}}
        inboxes[0].defaults.img2img: steps × strength is below one, so nothing would
        change; raise either of them (steps 1 × strength 0.75)
    """
    )
    for keys, message in table.items():
        assert told(inboxes(f"path: in, {keys}")) == [f"line 10: {message}"]


def test_defaults_are_checked_together_with_what_they_complete(read: Read):
    text = pipelines("restyle: [{img2img: {strength: 1}}]", "mesh: [{triposr: {high: 50}}]")
    read(text + "inboxes: [{path: in, pipeline: restyle, defaults: {img2img: {steps: 1}}}]")
    read(text + "inboxes: [{path: in, pipeline: mesh, defaults: {triposr: {low: 20}}}]")
    read(text + "inboxes: [{path: in, pipeline: mesh, defaults: {triposr: , img2img: {}}}]")


def test_one_wrong_model(told, cases):
    table = cases(
        r"""
    null
        models.m: should be a mapping with the key 'provider', not null
    {provider: difusers, path: x}
        models.m.provider: should name a provider, not 'difusers'; did you mean
        'diffusers'?
    {provider: [a]}
        models.m.provider: should name a provider, not a list; known here: diffusers,
        rembg, triposr
    {path: x}
        the key 'models.m.provider' is missing; known here: diffusers, rembg, triposr
    {provider: diffusers}
        the key 'models.m.path' is missing
    {provider: diffusers, path: 5}
        models.m.path: should be a path, not 5
    {provider: diffusers, path: x, safe: 1}
        unknown key 'models.m.safe'; known here: license, path, safety_checker,
        single_file
    {provider: diffusers, path: x, safety_checker: 1}
        models.m.safety_checker: should be true or false, not 1; write true
    """
    )
    for entry, message in table.items():
        text = f"version: 1\npipelines: {{a: [{{img2img: {{}}}}]}}\nmodels:\n  m: {entry}\n"
        assert told(text) == [f"line 4: {message}"]


# --- pipelines ---


def test_one_wrong_pipeline(told, cases):
    table = cases(
        r"""
    [{img2image: {}}]
        unknown key 'pipelines.p[0].img2image'; did you mean 'img2img'?
    []
        pipelines.p: should be a list of at least one stage
    {img2img: {}}
        pipelines.p: should be a list of at least one stage
    [img2img]
        pipelines.p[0]: a stage is a mapping with one key, its type, like `{triposr: {}}`
    [{img2img: {}, triposr: {}}]
        pipelines.p[0]: a stage is a mapping with one key, its type, like `{triposr: {}}`
    [{}]
        pipelines.p[0]: a stage is a mapping with one key, its type, like `{triposr: {}}`
    [{img2img: 5}]
        pipelines.p[0].img2img: should be a mapping of parameters to values, not 5
    [{img2img: {iid: a}}]
        unknown key 'pipelines.p[0].img2img.iid'; did you mean 'id'?
    [{img2img: {cfgg: 1}}]
        unknown key 'pipelines.p[0].img2img.cfgg'; did you mean 'cfg'?
    [{img2img: {cfg: 99}}]
        pipelines.p[0].img2img.cfg: should be from 0 to 30, not 99
    [{img2img: {cfg: 1, guidance_scale: 2}}]
        'pipelines.p[0].img2img.guidance_scale' means the same as 'cfg'; keep one
    [{img2img: {strength: 0}}]
        pipelines.p[0].img2img.strength: should be more than 0 and at most 1, not 0
    [{img2img: {strength: yes}}]
        pipelines.p[0].img2img.strength: should be a number, more than 0 and at most 1,
        not 'yes'
    [{img2img: {steps: 1}}]
        pipelines.p[0].img2img: steps × strength is below one, so nothing would change;
        raise either of them (steps 1 × strength 0.75)
    [{img2img: {sampler: eulr}}]
        pipelines.p[0].img2img.sampler: should be 'euler', 'euler_a' or 'ddim', not
        'eulr'; did you mean 'euler'?
    [{triposr: {turntable: mech}}]
        pipelines.p[0].triposr.turntable: should be true or false or 'mesh' or 'nerf', not
        'mech'; did you mean 'mesh'?
    [{triposr: {formats: [obj, gbl]}}]
        pipelines.p[0].triposr.formats[1]: should be 'glb' or 'obj', not 'gbl'; did you
        mean 'glb'?
    [{triposr: {low: 11}}]
        pipelines.p[0].triposr: low is above high
    [{triposr: {threshold: -.inf}}]
        pipelines.p[0].triposr.threshold: should be a finite number, not -.inf
    [{triposr: {}}, {decimate: {}}]
        the key 'pipelines.p[1].decimate.faces' is missing
    [{img2img: {model: sd51}}]
        pipelines.p[0].img2img.model: no model is called 'sd51'; did you mean 'sd15'?
    [{img2img: {model: matte}}]
        pipelines.p[0].img2img.model: the model 'matte' is not one for img2img; known
        here: sd15
    [{img2img: {model: 5}}]
        pipelines.p[0].img2img.model: should be text, not 5; put it in quotes
    [{img2img: {}}, {img2img: {}}]
        pipelines.p[1]: two stages are called 'img2img'; give each an `id` of its own
    [{img2img: {id: A}}, {img2img: {id: a}}]
        pipelines.p[1]: two stages are called 'a'; give each an `id` of its own
    [{img2img: {id: a}}, {img2img: {id: Matte}}, {remove_background: {model: matte}}]
        pipelines.p[1].img2img.id: files of remove_background are called so; choose another id
        than 'Matte'
    [{img2img: {id: seed}}]
        pipelines.p[0].img2img.id: 'seed' has a meaning of its own in sidecars; choose
        another
    [{img2img: {id: triposr}}]
        pipelines.p[0].img2img.id: 'triposr' has a meaning of its own in sidecars; choose
        another
    [{img2img: {id: a-b}}]
        pipelines.p[0].img2img.id: should be a word of at most 40 letters, digits and _, a
        letter first, not 'a-b'
    [{img2img: {id: 5}}]
        pipelines.p[0].img2img.id: should be a word of at most 40 letters, digits and _, a
        letter first, not 5
    [{triposr: {}}, {img2img: {}}]
        pipelines.p[1]: img2img needs an image, but triposr, which stands before it, makes
        a mesh
    [{decimate: {faces: 9}}]
        pipelines.p[0]: decimate needs a mesh, but a job begins with an image
    """
    )
    for stages, message in table.items():
        assert told(pipelines(f"p: {stages}")) == [f"line 7: {message}"]


def test_a_pipeline_without_a_name(told):
    assert told(pipelines("'': [{triposr: {}}]", '"a\\e[31m": [{triposr: {}}]')) == [
        "line 7: pipelines.: a pipeline needs a name that can be read",
        r"line 8: pipelines.a\x1b[31m: a pipeline needs a name that can be read",
    ]


def test_stages_with_ids_and_all_spellings(read: Read):
    config = read(
        pipelines("p: [{img2img: {cfg: 1}}, {img2img: {id: again, denoise: 0.5}}, {triposr: }]")
    )
    assert config.pipelines["p"].stages == (
        StageSpec("img2img", "img2img", {"model": "sd15", "guidance_scale": 1}),
        StageSpec("again", "img2img", {"model": "sd15", "strength": 0.5}),
        StageSpec("triposr", "triposr", {"model": "sculptor"}),
    )


def test_the_model_may_be_left_out_where_only_one_fits(told, read: Read):
    text = pipelines("p: [{img2img: {model: null}}]")
    assert read(text).pipelines["p"].stages[0].params["model"] == "sd15"
    two = text.replace("  matte:", "  second: {provider: diffusers, path: x}\n  matte:")
    assert told(two) == ["line 8: pipelines.p[0].img2img: needs a model; several fit: sd15, second"]
    none = text.replace("diffusers, path: sd", "rembg")
    assert told(none) == [
        "line 7: pipelines.p[0].img2img: needs a model; none that fits is declared"
    ]


def test_one_id_may_stand_for_different_stages_in_different_pipelines(told, read: Read):
    text = pipelines("a: [{img2img: {id: first}}]", "b: [{triposr: {id: first}}]")
    read(text + "inboxes: [{path: in, pipeline: a, defaults: {first: {model: }}}]")
    assert told(text + "inboxes: [{path: in, pipeline: a, defaults: {first: {steps: 3}}}]") == [
        "line 9: unknown key 'inboxes[0].defaults.first.steps'; it is a parameter of img2img: "
        "write `img2img: {steps: …}`"
    ]


def test_a_stage_of_another_package_that_cannot_be_loaded(
    read: Read, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "their_stages", ModuleType("their_stages"))
    monkeypatch.setitem(registry.STAGES, "theirs", "their_stages:Theirs")
    monkeypatch.setitem(registry.STAGES, "gone", "no_such_package.stages:Gone")
    with pytest.raises(ConfigError, match=r"the stage 'theirs' \(their_stages:Theirs\) cannot be"):
        read(pipelines("p: [{theirs: {}}]"))
    with pytest.raises(ConfigError, match=r"the stage 'gone' .* No module named 'no_such_package'"):
        read(pipelines("p: [{gone: {}}]"))


# --- all at once ---


def test_all_problems_at_once_in_line_order(told):
    text = """\
verson: 1
version: 1
paths: {data: 5}
inboxes:
  - {path: in, pipeline: restile, originals: kep}
  - {path: in, pipeline: restyle, priority: high}
  - {path: x, pipeline: broken, defaults: {triposr: {}}}
models:
  sd15: {provider: difusers}
  matte: {provider: rembg, nam: x}
pipelines:
  restyle: [{img2img: {model: sd15, steps: many, strength: 2}}]
  broken: [{triposr: {id: 5}}, {remove_background: {}}, {cut: {}}]
"""
    assert told(text) == [
        "line 1: unknown key 'verson'; did you mean 'version'?",
        "line 3: paths.data: should be a path, not 5",
        "line 5: inboxes[0].originals: should be 'archive', 'delete' or 'keep', not 'kep'; "
        "did you mean 'keep'?",
        "line 5: inboxes[0].pipeline: no pipeline is called 'restile'; did you mean 'restyle'?",
        "line 6: inboxes[1].priority: should be a whole number from -1000000 to 1000000, "
        "not 'high'",
        "line 6: inboxes[1].path: another inbox is called 'in'; set another `name`",
        "line 6: inboxes[1].path: HERE/in overlaps inboxes[0].path (HERE/in); keep them apart",
        "line 9: models.sd15.provider: should name a provider, not 'difusers'; "
        "did you mean 'diffusers'?",
        "line 10: unknown key 'models.matte.nam'; did you mean 'name'?",
        "line 12: pipelines.restyle[0].img2img.steps: should be a whole number from 1 to 150, "
        "not 'many'",
        "line 12: pipelines.restyle[0].img2img.strength: should be more than 0 and at most 1, "
        "not 2",
        "line 13: pipelines.broken[0].triposr.id: should be a word of at most 40 letters, digits "
        "and _, a letter first, not 5",
        "line 13: unknown key 'pipelines.broken[2].cut'; known here: decimate, img2img, "
        "remove_background, triposr",
    ]
