"""The other doors: submit, several inboxes at once, a look ahead without taking."""

import io
import itertools
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.base.times import utcnow
from dna_pipeline.config.loader import load_config
from dna_pipeline.intake.claiming import claims
from dna_pipeline.intake.claiming.recorder import Recorder
from dna_pipeline.intake.discovery.probe import Probed
from dna_pipeline.intake.planning import job_rows
from dna_pipeline.intake.service import IntakeService
from dna_pipeline.ledger import drops
from dna_pipeline.ledger.tables import Drop
from dna_pipeline.operations import check_jobs, check_plan
from dna_pipeline.operations.submit import Submission, Submitter, document_from_options


def submitter(site, *settings: str, pipeline: str | None = None) -> Submitter:
    return Submitter(site.config, site.ledger, document_from_options(pipeline, list(settings)))


# --- submit ---


def test_submitted_bytes_are_copied_and_queued(site, tmp_path) -> None:
    (tmp_path / "cat.png").write_bytes(b"cat")
    source = Submission("cat.png", tmp_path / "cat.png")
    job_id = submitter(site).submit(source, site.prober)
    job = site.job()
    assert (job.id, job.inbox, job.pipeline) == (job_id, "submit", "cut")
    assert (tmp_path / "cat.png").read_bytes() == b"cat"
    assert [path.read_bytes() for path in site.claims()] == [b"cat"]
    site.run_next()
    assert site.folders() == [f"submit/cat-{job_id[:8]}"]
    assert site.claims() == []


def test_submitting_standard_input(site) -> None:
    job_id = submitter(site).submit(Submission("stdin", io.BytesIO(b"cat")), site.prober)
    assert (site.job().id, site.job().stem) == (job_id, "stdin")


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "x" * 255])
def test_submitting_under_the_longest_name(site, name: str) -> None:
    made = submitter(site, "remove_background.force=true")
    made.submit(Submission(name, io.BytesIO(b"cat")), site.prober)
    site.run_next()
    (manifest,) = site.outbox.rglob("manifest.json")
    names = [path.name for path in (manifest.parent / "source").iterdir()]
    assert set(names) == {name, "x" * 251 + ".yml"}


@pytest.mark.parametrize("data", [b"broken", b"small"])
def test_what_is_no_image_is_refused_and_leaves_nothing(site, data: bytes) -> None:
    with pytest.raises(ConfigError, match="image_"):
        submitter(site).submit(Submission("cat.png", io.BytesIO(data)), site.prober)
    assert site.claims() == []
    assert site.rows(Drop) == []


def test_an_interrupt_after_the_commit_takes_nothing_back(site, monkeypatch) -> None:
    real = Recorder.record

    def record(*args):
        real(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(Recorder, "record", record)
    with pytest.raises(KeyboardInterrupt):
        submitter(site).submit(Submission("cat.png", io.BytesIO(b"cat")), site.prober)
    assert site.job().status == "queued"
    assert [path.read_bytes() for path in site.claims()] == [b"cat"]


@pytest.mark.parametrize("setting", ["force", "=1", ".x=1", "remove_background.=1"])
def test_settings_that_cannot_be_read(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"should read stage.parameter=value"):
        document_from_options(None, [setting])


@pytest.mark.parametrize(
    "text",
    ["a chair #1", "#1", "12", "no", "null", "0,6", "a: b", "{red|blue}", "[a]", '"a"', " a"],
)
def test_a_text_is_taken_as_the_shell_gives_it(text: str) -> None:
    told = document_from_options(
        None, [f"img2img.prompt={text}", f"img2img.positive_prompt={text}"]
    )
    assert told.value == {"img2img": {"prompt": text, "positive_prompt": text}}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("triposr.formats=[glb, obj]", {"triposr": {"formats": ["glb", "obj"]}}),
        ("triposr.resolution= 64", {"triposr": {"resolution": 64}}),
        ("triposr.resolution =64", {"triposr": {"resolution": 64}}),
        ("tags=[a, b]", {"tags": ["a", "b"]}),
        ("meta.n=5", {"meta": {"n": 5}}),
        ("meta.note=[a] #1", {"meta": {"note": "[a] #1"}}),
        ("seed=-1", {"seed": -1}),
    ],
)
def test_other_values(setting: str, value: dict) -> None:
    assert document_from_options(None, [setting]).value == value


def test_settings_that_exclude_one_another() -> None:
    with pytest.raises(ConfigError, match="img2img is set as a whole, too; keep one"):
        document_from_options(None, ["img2img=5", "img2img.steps=3"])
    with pytest.raises(ConfigError, match=r"--set 'tags=\[a'.*: the \[ in this line is not closed"):
        document_from_options(None, ["tags=[a"])


def test_a_wrong_setting_is_answered_without_a_line(site) -> None:
    with pytest.raises(ConfigError) as caught:
        submitter(site, "remove_background.force=yes")
    assert str(caught.value) == (
        "remove_background.force: should be true or false, not 'yes'; write true "
        "(parameter_invalid)"
    )
    with pytest.raises(ConfigError, match=r"^no pipeline is called 'cat'"):
        submitter(site, pipeline="cat")


def test_settings_that_are_wrong(site) -> None:
    with pytest.raises(ConfigError, match="parameter_invalid"):
        submitter(site, "remove_background.force=7")
    with pytest.raises(ConfigError, match="unknown_pipeline"):
        submitter(site, pipeline="cat")


# --- several inboxes ---


@pytest.fixture
def two(site):
    text = yaml.safe_load((site.root / "pipeline.yaml").read_text())
    text["inboxes"].append({"path": "second", "pipeline": "other", "settle_seconds": 0})
    text["inboxes"][0]["settle_seconds"] = 0
    (site.root / "pipeline.yaml").write_text(yaml.safe_dump(text))
    config = load_config(site.root / "pipeline.yaml", {})
    (site.root / "second").mkdir()
    return config


def step(gate: IntakeService, times: int = 3) -> None:
    for _ in range(times):
        for inbox in gate.inboxes:
            gate.hint(inbox.inbox.name)
        gate.step()


@pytest.fixture
def gate(two, site):
    gate = IntakeService(two, site.ledger, site.cleanup)
    gate._prober.ask, gate._prober.answer = site.prober.ask, site.prober.answer
    gate.recover()
    yield gate
    gate.close()


def test_trouble_in_one_inbox_is_not_the_others(gate, site, two, monkeypatch) -> None:
    site.put("cat.png")
    site.put("cat.yaml", "priority: 1")
    (two.inboxes[1].path / "dog.png").write_bytes(b"dog")
    (two.inboxes[1].path / "dog.yaml").write_text("priority: 2")
    monkeypatch.setattr(gate.inboxes[0].finder, "find", lambda now: 1 / 0)
    step(gate)
    assert [job.name for job in site.jobs()] == ["dog.png"]
    assert gate.waiting()[0] == {
        "inbox": "in", "file": None, "reason": "could not take files in: division by zero",
    }  # fmt: skip
    assert gate.seconds_to_next() > 1


def test_a_claim_of_an_inbox_that_is_no_longer_configured_goes_back(gate, site, two) -> None:
    old = site.root / "old"
    old.mkdir()
    folder = claims.make_claim_dir(old, site.ledger.id, "f" * 32)
    (folder / "cat.png").write_bytes(b"cat")
    row = job_rows.drop_row(two.inboxes[0], "", "cat.png", None)
    row |= {"inbox": "old", "claim": str(folder), "created_at": utcnow() - timedelta(hours=2)}
    site.ledger.transact(lambda s: drops.begin_claims(s, [row]))
    gate.recover()
    assert (old / "cat.png").read_bytes() == b"cat"
    assert not (old / ".dna").exists()
    assert site.rows(Drop) == []


@pytest.mark.parametrize(("hours", "left"), [(0, 1), (2, 0)])
def test_a_submit_that_was_cut_off_is_cleared_away_in_time(gate, site, two, hours, left) -> None:
    row = job_rows.drop_row(two.inbox("submit"), "", "cat.png", None)
    folder = site.config.data / "claims" / row["id"]
    folder.mkdir(parents=True)
    (folder / "cat.png").write_bytes(b"ca")
    row |= {"claim": str(folder), "created_at": utcnow() - timedelta(hours=hours)}
    site.ledger.transact(lambda s: drops.begin_claims(s, [row]))
    gate.recover()
    assert len(site.rows(Drop)) == len(site.claims()) == left


def test_quiet_once_all_is_taken(gate, site) -> None:
    site.put("cat.png")
    site.put("cat.yaml", "priority: 1")
    assert not gate.is_quiet
    step(gate)
    assert gate.is_quiet
    assert len(site.jobs()) == 1


# --- preview ---


def test_what_would_become_of_an_inbox(make_site) -> None:
    site = make_site()
    site.put("cat.png")
    site.put("cat.yaml", "pipeline: other")
    site.put("bad.png")
    site.put("bad.yaml", "fierce: 1")
    site.put("broken.png", b"broken")
    site.put("sub/photo.png")
    site.put("order.yaml", "image: sub/photo.png\npriority: 3")
    site.put("lonely.yaml", "priority: 3")
    inbox = site.config.inboxes[0]
    found = {c.image or c.sidecar: c for c in check_plan.candidates(inbox)}
    outcomes = {
        name: next(check_jobs.planned_jobs(site.config, inbox, candidate, site.prober))
        for name, candidate in found.items()
    }
    told = {
        name: o.error.code if o.error else o.spec and (o.spec.pipeline, o.spec.priority)
        for name, o in outcomes.items()
    }
    assert told == {
        "cat.png": ("other", 0), "bad.png": "sidecar_invalid", "broken.png": "image_unreadable",
        "sub/photo.png": ("cut", 3), "lonely.yaml": "image_missing",
    }  # fmt: skip
    assert len(site.left()) == 8
    assert isinstance(site.prober.probe(Path(inbox.path / "cat.png")), Probed)


def lying(site) -> dict[str, str | None]:
    """What `check` says of the inbox: by file, the code of what is wrong with it."""
    inbox = site.config.inboxes[0]
    outlooks = [
        (outlook.image or candidate.table or candidate.sidecar, outlook.error)
        for candidate in check_plan.preview(site.config, inbox).candidates
        for outlook in check_jobs.planned_jobs(site.config, inbox, candidate, site.prober)
    ]
    return {name: error and error.code for name, error in outlooks}


@pytest.mark.slow
def test_kept_files_that_were_taken_in_would_not_run(make_site) -> None:
    site = make_site(originals="keep")
    site.put("cat.png", "cat")
    site.put("dog.png", "dog")
    site.put("dog.yaml", "priority: 1")
    site.put("caf\udce9.png", "cafe")
    site.put("order.yaml", "image: cat.png\npriority: 2")
    site.put("shots.csv", "image\ncat.png\n")
    site.put("lonely.yaml", "priority: 3")
    assert lying(site) == {
        "cat.png": None, "dog.png": None, "caf\udce9.png": None, "lonely.yaml": "image_missing",
    }  # fmt: skip
    site.settle()
    assert lying(site) == {"lonely.yaml": "image_missing"}
    site.now += 3600
    site.settle()
    asked = len(site.prober.asked)
    assert lying(site) == {}
    assert len(site.prober.asked) == asked
    site.put("dog.yaml", "priority: 12")
    site.put("new.png")
    assert lying(site) == {"dog.png": None, "new.png": None}


@pytest.mark.slow
def test_an_image_that_is_reserved_would_not_run(site) -> None:
    site.put("a.png")
    site.put("shots.csv", "image,priority\na.png,high\n")
    site.settle()
    assert site.left() == {"a.png"}
    assert lying(site) == {}


def test_a_job_file_and_what_it_waits_for(site) -> None:
    site.put("a.png")
    site.put("all.yaml", "images: [a.png, b.png]")
    inbox = site.config.inboxes[0]
    (candidate,) = check_plan.candidates(inbox)
    (told,) = check_jobs.planned_jobs(site.config, inbox, candidate, site.prober)
    assert told.error is not None
    assert (told.error.code, told.error.detail) == ("image_missing", "all.yaml waits for b.png")


@pytest.mark.slow
@pytest.mark.parametrize("gone", ["a.png", "the teller"])
@pytest.mark.parametrize(
    ("teller", "when"),
    [
        *itertools.product(["a.yaml", "shots.csv", "all.yaml"], ["probed", "hashed"]),
        ("a.yaml", "read"),
    ],
)
def test_files_that_are_taken_while_they_are_looked_at(
    site, monkeypatch, teller: str, gone: str, when: str
) -> None:
    told = {"a.yaml": "priority: 1", "shots.csv": "image\na.png\n", "all.yaml": "images: a.png"}
    site.put("a.png")
    site.put("b.png")
    site.put(teller, told[teller])

    def before(target, name: str) -> None:
        real = getattr(target, name)

        def taken_first(path):
            (site.inbox / (teller if gone == "the teller" else gone)).unlink(missing_ok=True)
            return real(path)

        monkeypatch.setattr(target, name, taken_first)

    target = site.prober if when == "probed" else check_jobs
    before(target, {"probed": "probe", "hashed": "sha256_file", "read": "read_sidecar"}[when])
    found = lying(site)
    assert found.pop("b.png") is None
    assert set(found.values()) <= {None}


def test_what_check_may_not_read_is_told(site, monkeypatch) -> None:
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    site.put("a.png")
    monkeypatch.setattr(check_jobs, "sha256_file", refuse)
    assert lying(site) == {"a.png": "image_unreadable"}
