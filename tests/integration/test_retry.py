"""A retry goes on from the first stage whose input or parameters changed."""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dna_pipeline.base.errors import EmptyMesh
from dna_pipeline.base.files import INTERMEDIATE
from dna_pipeline.execution.dispatcher import Dispatcher
from dna_pipeline.execution.worker_state import WorkerState
from dna_pipeline.ledger import queue, requests
from dna_pipeline.ledger.tables import ArtifactRow
from dna_pipeline.operations.retry import Retrier
from dna_pipeline.providers.stable_diffusion.provider import Diffusers
from dna_pipeline.publish.failure_folders import remove_failure
from tests.integration.power import followed
from tests.played_workers import free_worker

SIDECAR = "pipeline: two_stages\nimg2img: {seed: -1, prompt: 'a {red|blue|green|grey} cat'}\n"


class Recorder:
    """An executor that only remembers its orders."""

    capacity = 1

    def __init__(self) -> None:
        self.orders = []

    def workers(self) -> tuple[WorkerState, ...]:
        return (free_worker(),)

    def submit(self, order, among=None) -> None:
        self.orders.append(order)


@pytest.fixture(autouse=True)
def weights_are_there(monkeypatch) -> None:
    """Nothing here computes: it is enough that no job waits for weights."""
    monkeypatch.setattr(Diffusers, "missing", lambda self: None)


MODEL = {
    "name": "sd15", "path": "models/sd", "sha256": "5" * 64, "license": None,
    "embeddings": [{"name": "ink", "sha256": "6" * 64}],
}  # fmt: skip
"""The model of the first stage, as its run recorded it."""


@pytest.fixture
def site(make_site, tmp_path):
    return failed_site(make_site, tmp_path)


def failed_site(make_site, root: Path):
    """A site with a job of two stages, whose first has finished and whose second failed."""
    made = make_site(root)
    made.put("cat.png", b"cat")
    made.put("cat.yaml", SIDECAR)
    made.settle()
    fail_second(made)
    return made


def fail_second(site, *, publish: bool = True, names: tuple[str, ...] = ("cat.png",)) -> None:
    """Finish the first stage with files of these names, of which the next stage reads the first,
    and fail in the second."""
    job = site.claim_next()
    first, second = job.stages
    folder = site.config.work / job.id / first["id"]
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"a painting")
    run = {
        "stage_id": first["id"], "type": first["type"], "provider": "diffusers", "model": MODEL,
        "params": first["params"], "device": "cpu", "dtype": "float32", "batch_size": 1,
        "attempt": job.attempt, "seconds": 0.5, "warnings": [], "environment": {"torch": "2"},
        "stage_key": "1" * 64,
    }  # fmt: skip
    files = [
        {
            "path": name, "role": "image" if name == names[-1] else INTERMEDIATE,
            "media_type": "image/png", "bytes": 10,
            "sha256": hashlib.sha256(b"a painting").hexdigest(),
            "facts": {"width": 64, "height": 48},
        }
        for name in names
    ]  # fmt: skip
    failure = EmptyMesh("nothing there").failure()

    def commit(session) -> None:
        queue.finish_stage(session, job.id, run, files)
        queue.fail(session, job.id, failure, second["id"])

    site.ledger.transact(commit)
    if publish:
        site.publish()


def failure_folder(site) -> Path:
    (name,) = site.folders()
    return site.outbox / name


def retry(site) -> list[str]:
    """The stages that are kept."""
    return Retrier(site.config, site.ledger).retry(site.job().id, site.prober).stages


def order_of(site):
    """The order that the daemon makes of the next job."""
    executor = Recorder()
    Dispatcher(site.config, site.ledger, executor).dispatch()
    (order,) = executor.orders
    return order


def seed(site) -> int:
    return site.job().stages[0]["params"]["seed"]


@pytest.mark.slow
def test_a_failure_keeps_what_was_computed(site) -> None:
    folder = failure_folder(site)
    assert (folder / "cat.png").read_bytes() == b"a painting"
    report = json.loads((folder / "error.json").read_bytes())
    (stage,), (file,) = report["stages"], report["artifacts"]
    assert (stage["id"], stage["stage_key"]) == ("img2img", "1" * 64)
    assert (file["path"], file["sha256"]) == (
        "cat.png", hashlib.sha256(b"a painting").hexdigest(),
    )  # fmt: skip
    assert report["environment"]["torch"] == "2"
    assert not (site.config.work / site.job().id).exists()


@pytest.mark.slow
def test_an_unchanged_job_goes_on_behind_its_finished_stage(site) -> None:
    before, params = seed(site), site.job().stages
    assert retry(site) == ["img2img"]
    assert (seed(site), site.job().stages) == (before, params), "a drawn seed stays"
    assert site.folders() == []
    order = order_of(site)
    first, second = order.stages
    assert first.done is not None
    assert (first.done[0].sha256, first.done_key) == (
        hashlib.sha256(b"a painting").hexdigest(), "1" * 64,
    )  # fmt: skip
    assert first.done_model == MODEL
    assert (second.done, second.done_model) == (None, None)
    assert Path(order.work_dir, "img2img/cat.png").read_bytes() == b"a painting"
    assert [path.name for path in site.claims()] == ["cat.png", "cat.yaml"]


@pytest.mark.slow
def test_a_file_for_the_next_stage_alone_is_kept_for_it(make_site, tmp_path) -> None:
    site = make_site(tmp_path)
    site.put("cat.png", b"cat")
    site.put("cat.yaml", SIDECAR)
    site.settle()
    fail_second(site, names=("cat.lossless.png", "cat.jpg"))
    names = {path.name for path in failure_folder(site).iterdir()}
    assert {"cat.lossless.png", "cat.jpg"} <= names
    assert retry(site) == ["img2img"]
    assert site.folders() == []
    order = order_of(site)
    assert [file.path for file in order.stages[0].done] == ["cat.lossless.png", "cat.jpg"]
    assert Path(order.work_dir, "img2img/cat.lossless.png").is_file()


def edit(site, text: str) -> None:
    (failure_folder(site) / "source/cat.yaml").write_text(text)


def test_a_changed_second_stage_keeps_the_first_and_its_seed(site) -> None:
    before = seed(site)
    edit(site, SIDECAR + "remove_background: {force: true}\n")
    assert retry(site) == ["img2img"]
    assert seed(site) == before
    assert site.job().stages[1]["params"]["force"] is True
    assert order_of(site).stages[0].done is not None


def test_a_changed_first_stage_runs_again_with_a_new_seed(site) -> None:
    before = seed(site)
    edit(site, SIDECAR.replace("cat'", "cat', steps: 30"))
    assert retry(site) == []
    assert seed(site) != before
    assert site.stages_of(site.job().id) == []
    assert order_of(site).stages[0].done is None


def test_a_seed_that_was_given_is_not_taken_for_a_drawn_one(make_site) -> None:
    site = make_site()
    site.put("cat.png", b"cat")
    site.put("cat.yaml", "pipeline: two_stages\nimg2img: {seed: 42}\n")
    site.settle()
    fail_second(site)
    edit(site, "pipeline: two_stages\nimg2img: {seed: -1}\n")
    assert retry(site) == []
    assert seed(site) != 42


def test_a_drawn_seed_with_an_offset_stays(make_site) -> None:
    site = make_site()
    site.put("cat.png", b"cat")
    site.put("cat.yaml", "pipeline: two_stages\nseed_offset: 3\nimg2img: {seed: -1}\n")
    site.settle()
    before = seed(site)
    fail_second(site)
    assert retry(site) == ["img2img"]
    assert seed(site) == before


def test_a_changed_image_runs_everything_again(site) -> None:
    (failure_folder(site) / "source/cat.png").write_bytes(b"another cat")
    assert retry(site) == []
    assert order_of(site).stages[0].done is None


def test_what_people_put_into_a_failure_folder_stays(site) -> None:
    folder = failure_folder(site)
    strangers = {
        "notes.txt": b"note", "sub/x": b"x", "source/w.psd": b"psd", "cat.png": b"painted over",
        "source/dog.yaml": b"priority: 1", "source/cat.png.bak": b"old",
    }  # fmt: skip
    for name, data in strangers.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    done = Retrier(site.config, site.ledger).retry(site.job().id, site.prober)
    assert (done.stages, done.failure_folder) == ([], folder)
    there = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    assert {name: path.read_bytes() for name, path in there.items()} == strangers
    fail_second(site)
    assert site.folders() == [f"in/failed/{folder.name}-2"]


def failed_with(make_site, name: str | None = None, text: str = "", **keys):
    """A site with a failed job whose image has a sidecar of that name, or none."""
    site = make_site(**keys)
    site.put("cat.png", b"small")
    if name is not None:
        site.put(name, text)
    site.settle()
    site.publish()
    source = failure_folder(site) / "source"
    (source / "cat.png").write_bytes(b"cat")
    return site, source


@pytest.mark.parametrize("name", ["cat.png.yaml", "cat.yaml"])
def test_a_strange_yaml_in_a_failure_folder_is_not_the_sidecar(make_site, name: str) -> None:
    site, source = failed_with(make_site, name, "priority: 5")
    (source / "a-dog.yaml").write_text("priority: 7")
    retry(site)
    assert (site.job().priority, site.drop(site.job()).sidecar) == (5, name)
    assert [path.name for path in source.iterdir()] == ["a-dog.yaml"]


@pytest.mark.parametrize("name", ["a-dog.yaml", "notes.txt", "cat.txt"])
def test_without_a_sidecar_a_strange_text_neither_counts_nor_goes(make_site, name: str) -> None:
    site, source = failed_with(make_site)
    (source / name).write_text("priority: 7")
    retry(site)
    assert (site.job().priority, site.drop(site.job()).sidecar) == (0, None)
    assert (source / name).read_text() == "priority: 7"
    assert [path.name for path in source.iterdir()] == [name]


@pytest.mark.parametrize("name", ["cat.png.yaml", "cat.yml", "cat.PNG.yaml"])
def test_a_sidecar_that_is_put_beside_a_failed_image_counts(make_site, name: str) -> None:
    site, source = failed_with(make_site)
    (source / name).write_text("priority: 5")
    (source / "cat.txt").write_text("a note")
    retry(site)
    assert (site.job().priority, site.drop(site.job()).sidecar) == (5, name)
    assert [path.name for path in source.iterdir()] == ["cat.txt"]


def test_a_prompt_file_that_is_put_beside_a_failed_image_counts(make_site) -> None:
    site, source = failed_with(make_site, prompt_files=True, pipeline="paint")
    (source / "cat.txt").write_text("a red cat")
    (source / "notes.txt").write_text("a note")
    retry(site)
    assert site.job().stages[0]["params"]["prompt"] == "a red cat"
    assert [path.name for path in source.iterdir()] == ["notes.txt"]


def test_the_prompt_file_of_a_drop_counts_whatever_its_inbox_asks_for_now(make_site) -> None:
    site, source = failed_with(make_site, "cat.txt", "a cat", prompt_files=True, pipeline="paint")
    (source / "cat.txt").write_text("a red cat")
    inbox = replace(site.config.inboxes[0], prompt_files=False)
    Retrier(replace(site.config, inboxes=(inbox,)), site.ledger).retry(site.job().id, site.prober)
    assert site.job().stages[0]["params"]["prompt"] == "a red cat"
    assert not source.exists()


def test_a_failure_folder_without_files_goes_with_its_retry(site) -> None:
    folder = failure_folder(site)
    (folder / "sub/empty").mkdir(parents=True)
    done = Retrier(site.config, site.ledger).retry(site.job().id, site.prober)
    assert done.failure_folder is None
    assert not folder.exists()
    assert not folder.parent.exists(), "the folder of failures is empty, too"
    fail_second(site)
    assert site.folders() == [f"in/failed/{folder.name}"]


def test_a_failure_folder_that_people_emptied_is_removed(site) -> None:
    folder = failure_folder(site)
    outbox = site.publisher.outbox
    (folder / "error.json").unlink()
    job, drop = site.job(), site.drop(site.job())
    assert remove_failure(outbox, job, drop, lambda _: False) is None
    assert folder.is_dir(), "it holds files"
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()
    assert remove_failure(outbox, job, drop, lambda _: False) is None
    assert not folder.exists()


@pytest.mark.parametrize("damage", ["changed", "removed"])
def test_a_stage_file_that_people_touched_is_made_again(site, damage: str) -> None:
    file = failure_folder(site) / "cat.png"
    if damage == "changed":
        file.write_bytes(b"a scribble")
    else:
        file.unlink()
    assert retry(site) == []
    assert order_of(site).stages[0].done is None


@pytest.mark.slow
def test_a_retry_is_swept_by_no_start(site) -> None:
    retry(site)
    site.restart()
    site.restart()
    assert order_of(site).stages[0].done is not None
    assert (site.config.work / site.job().id / "img2img/cat.png").exists()
    site.restart()
    assert (site.config.work / site.job().id / "img2img/cat.png").exists()


@pytest.mark.slow
def test_cancelled_before_it_ran_again_it_still_keeps_them(site) -> None:
    retry(site)
    site.ledger.transact(lambda s: requests.request_cancel(s, site.job().id))
    site.publish()
    assert site.folders() == [f"in/cancelled/cat-{site.job().id[:8]}"]
    assert (failure_folder(site) / "cat.png").read_bytes() == b"a painting"
    assert retry(site) == ["img2img"]


@pytest.mark.slow
def test_a_later_stage_is_forgotten_once_an_earlier_one_ran_again(site) -> None:
    retry(site)
    job = site.claim_next()
    run = {
        "type": "img2img", "params": {}, "device": "cpu", "dtype": "float32", "batch_size": 1,
        "attempt": 1, "seconds": 1, "warnings": [], "environment": {},
    }  # fmt: skip
    for stage_id in ("img2img", "remove_background", "img2img"):
        site.ledger.transact(
            lambda s, i=stage_id: queue.finish_stage(s, job.id, {"stage_id": i, **run}, [])
        )
    assert [run.stage_id for run in site.stages_of(job.id)] == ["img2img"]
    assert site.rows(ArtifactRow) == []


def computed(site) -> list[Path]:
    """Where the finished stage's result lies."""
    roots = [site.outbox, site.config.data]
    return [p for root in roots for p in root.rglob("cat.png") if p.read_bytes() == b"a painting"]


@pytest.mark.slow
def test_killed_at_any_step_of_a_retry_nothing_computed_is_lost(make_site, kill_everywhere) -> None:
    def act(site) -> None:
        retry(site)
        order_of(site)

    def check(site) -> None:
        assert computed(site)
        if site.job().status == "failed":
            assert retry(site) == ["img2img"]
        order = order_of(site)
        assert order.stages[0].done is not None
        assert Path(order.work_dir, "img2img/cat.png").read_bytes() == b"a painting"
        site.ledger.transact(queue.recover)
        fail_second(site)
        assert site.folders() == [f"in/failed/cat-{site.job().id[:8]}"]
        site.restart()
        assert not (site.config.work / site.job().id).exists()

    def prepare(root: Path):
        return failed_site(make_site, root)

    assert kill_everywhere(prepare, act, check, every=3) > 5


@pytest.mark.slow
def test_killed_at_any_step_of_a_failure_nothing_computed_is_lost(
    make_site, kill_everywhere
) -> None:
    def prepare(root: Path):
        site = failed_site(make_site, root)
        retry(site)
        fail_second(site, publish=False)
        return site

    def check(site) -> None:
        assert computed(site)
        site.publish()
        assert (failure_folder(site) / "cat.png").read_bytes() == b"a painting"
        assert retry(site) == ["img2img"]

    assert kill_everywhere(prepare, lambda site: site.publish(), check, every=3) > 5


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="follows inodes through /proc")
def test_when_the_power_goes_during_a_retry_nothing_computed_is_lost(site) -> None:
    with followed(site.root) as disk:
        retry(site)
        order_of(site)
    assert len(disk.states) > 8
    for when, state in disk.states.items():
        site.close()
        disk.build(state)
        site._start()
        site.restart()
        assert computed(site), f"lost at {when}"
        if site.job().status == "failed":
            assert retry(site) == ["img2img"]
        folder = Path(order_of(site).work_dir, "img2img")
        assert (folder / "cat.png").read_bytes() == b"a painting", when
