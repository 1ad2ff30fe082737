"""The page: dropping images, mending failed jobs, and models, as browsers without scripts do."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.errors import BlackImage
from dna_pipeline.config.loader import load_config
from dna_pipeline.config.schema import Config
from dna_pipeline.ledger.queries import Queries
from tests.guarded_server import guarded, wait_for
from tests.old_client import Answer
from tests.page_client import Browser, picture, text_of
from tests.web_server import StandIn

CONFIG = """\
version: 1
models:
  sd15: {{provider: diffusers, path: {models}/sd-v1-5-local}}
  absent: {{provider: diffusers, path: models/absent}}
  triposr: {{provider: triposr, path: {models}/triposr-base}}
  matte: {{provider: border_key}}
pipelines:
  restyle: [{{img2img: {{model: sd15, steps: 12}}}}]
  painted: [{{img2img: {{model: sd15, prompt: a clay figurine, negative_prompt: text}}}}]
  mesh: [{{remove_background: {{}}}}, {{triposr: {{resolution: 48}}}}]
inboxes: [{{path: in, pipeline: restyle}}]
"""
HX = {"HX-Request": "true"}
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202egnp.exe"


@pytest.fixture
def config(tmp_path: Path, models_dir: Path, quiet: None) -> Config:
    (tmp_path / "pipeline.yaml").write_text(CONFIG.format(models=models_dir))
    (tmp_path / "in").mkdir()
    (tmp_path / "outbox").mkdir()
    return load_config(tmp_path / "pipeline.yaml", {})


@pytest.fixture
def browser(config: Config) -> Iterator[Browser]:
    with guarded(config) as address:
        yield Browser(address)


def jobs(config: Config) -> list[dict[str, Any]]:
    if not config.ledger_path.exists():
        return []
    with closing(Queries(config.ledger_path)) as queries:
        return [queries.job(row["id"]) for row in queries.jobs()]


def test_form_has_the_parameters_of_the_stages(browser: Browser) -> None:
    body = browser.get("/drop").body.decode()
    assert 'name="img2img.strength"' in body and 'placeholder="12"' in body
    other = browser.get("/drop?pipeline=mesh", **HX).body.decode()
    assert 'name="triposr.resolution"' in other and 'placeholder="48"' in other
    assert "<html" not in other and "img2img." not in other


def test_drop_queues_an_image_with_what_was_changed_alone(browser: Browser, config: Config) -> None:
    answer = browser.drop(
        [("cat.png", picture())], {"img2img.strength": "0.4", "img2img.prompt": "clay"}
    )
    (job,) = jobs(config)
    assert answer.status == 200 and f'href="/results/{job["id"]}"' in answer.body.decode()
    params = job["stages"][0]["params"]
    assert (params["strength"], params["prompt"], params["steps"]) == (0.4, "clay", 12)
    assert "steps" not in job["drop"]["sidecar_text"]


def test_each_of_several_images_stands_alone(browser: Browser, config: Config) -> None:
    files = [
        ("a.png", picture()), ("b.png", picture("blue")),
        ("b.png.yaml", b"img2img: {strength: 0.3}"), ("wrong.png", b"no picture"),
        ("jobs.csv", b"image\na.png\n"), ("c.yaml", b"img2img: {}"),
    ]  # fmt: skip
    shown = text_of(browser.drop(files))
    by_name = {job["name"]: job["stages"][0]["params"]["strength"] for job in jobs(config)}
    assert by_name == {"a.png": 0.75, "b.png": 0.3}
    assert "wrong.png refused image_unreadable" in shown
    assert "Put it into an inbox folder" in shown and "c.yaml refused image_missing" in shown
    assert "2 images are queued, 3 files were refused" in shown


def test_two_files_of_one_name_are_both_accounted_for(browser: Browser, config: Config) -> None:
    shown = text_of(browser.drop([("a.png", picture()), ("a.png", picture("blue"))]))
    assert len(jobs(config)) == 1
    assert "1 image is queued, 1 file was refused" in shown and "a.png refused name_taken" in shown


def test_check_queues_nothing(browser: Browser, config: Config) -> None:
    shown = text_of(browser.drop([("cat.png", picture())], action="check"))
    assert "Checked; nothing is queued yet" in shown and "cat.png would run img2img" in shown
    assert jobs(config) == []


def test_wrong_field_is_refused_beside_it(browser: Browser, config: Config) -> None:
    answer = browser.drop([("cat.png", picture())], {"img2img.strength": "7"})
    body = answer.body.decode()
    assert answer.status == 422 and jobs(config) == []
    assert re.search(r'aria-invalid="true">\s*<p[^>]*><strong[^>]*>[^<]*at most 1', body)
    assert 'value="7"' in body  # and nothing of what was written is lost


def test_double_click_makes_one_job(browser: Browser, config: Config) -> None:
    answers: list[Answer] = []
    send = lambda: answers.append(browser.drop([("cat.png", picture())]))  # noqa: E731
    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status for answer in answers] == [200, 200] and len(jobs(config)) == 1
    assert "was queued before" in " ".join(map(text_of, answers))


def test_hostile_names_and_texts_are_shown_as_text(browser: Browser) -> None:
    yaml = f"pipeline: '{HOSTILE[:25]}'\n".encode()
    files = [
        (f"{HOSTILE}.png", b"x"),
        (f"{HOSTILE}.csv", b"x"),
        ("a.png", picture()),
        ("a.yaml", yaml),
    ]
    body = browser.drop(files, {"img2img.strength": HOSTILE}).body.decode()
    body += browser.drop(files, {"img2img.prompt": HOSTILE}).body.decode()
    assert "<script>alert" not in body
    # Fields hold what was written, so that it can be mended; all else shows what it is made of.
    outside = re.sub(r"<textarea.*?</textarea>|value=\"[^\"]*\"", "", body, flags=re.DOTALL)
    assert "\u202e" not in outside and "\x1b" not in outside and "&lt;script&gt;" in outside


def test_form_of_an_earlier_job(browser: Browser, config: Config) -> None:
    browser.drop([("cat.png", picture())], {"img2img.strength": "0.4", "img2img.sampler": "lcm"})
    (job,) = jobs(config)
    body = browser.get(f"/drop?from={job['id']}").body.decode()
    assert 'name="img2img.strength" value="0.4"' in body
    assert '<option value="lcm" selected>' in body
    assert 'name="img2img.steps" value=""' in body  # as the pipeline has it


def test_prompt_that_is_to_be_empty_is_empty(browser: Browser, config: Config) -> None:
    assert 'name="emptied" value="img2img.prompt">' in browser.get("/drop").body.decode()
    fields = {"pipeline": "painted", "emptied": "img2img.prompt"}
    browser.drop([("cat.png", picture())], fields)
    (job,) = jobs(config)
    params = job["stages"][0]["params"]
    assert (params["prompt"], params["negative_prompt"]) == ("", "text")
    assert "prompt: ''" in job["drop"]["sidecar_text"].replace('"', "'")
    again = browser.get(f"/drop?from={job['id']}").body.decode()
    assert 'name="emptied" value="img2img.prompt" checked>' in again
    assert 'name="emptied" value="img2img.negative_prompt">' in again


def test_prompt_with_a_text_is_not_emptied(browser: Browser, config: Config) -> None:
    fields = {"img2img.prompt": "clay", "emptied": "img2img.prompt"}
    answer = browser.drop([("cat.png", picture())], fields)
    assert answer.status == 422 and jobs(config) == []
    assert "has a text, and is ticked to be empty" in text_of(answer)
    assert 'value="img2img.prompt" checked>' in answer.body.decode()
    assert ">\nclay</textarea>" in answer.body.decode()


def test_only_prompts_can_be_emptied(browser: Browser, config: Config) -> None:
    browser.drop([("cat.png", picture())], {"emptied": "img2img.steps"})
    assert jobs(config)[0]["stages"][0]["params"]["steps"] == 12


class TestRetry:
    @pytest.fixture
    def daemon(self, config: Config) -> Iterator[StandIn]:
        with StandIn(config).running() as stand_in:
            yield stand_in

    @pytest.fixture
    def failed(self, browser: Browser, config: Config, daemon: StandIn) -> str:
        daemon.fails = lambda _: BlackImage(f"all black {HOSTILE}").failure()
        browser.drop([("cat.png", picture())], {"img2img.strength": "0.4"})
        (job,) = wait_for(lambda: [each for each in jobs(config) if each["publish"] == "done"])
        daemon.fails = lambda _: None
        daemon.gate.clear()
        return job["id"]

    def test_says_what_went_wrong_with_the_yaml(self, browser: Browser, failed: str) -> None:
        body = browser.get(f"/results/{failed}/retry").body.decode()
        assert "all black" in body and "<script>alert" not in body and "\u202e" not in body
        assert "strength: 0.4</textarea>" in re.sub(r"\s+</textarea>", "</textarea>", body)

    def test_edited_yaml_is_what_runs(self, browser: Browser, config: Config, failed: str) -> None:
        form = {"text": "img2img:\r\n  strength: 0.9\r\n", "action": "retry"}
        answer = browser.request(
            "POST", f"/results/{failed}/retry",
            b"text=img2img%3A%0D%0A++strength%3A+0.9&action=retry",
            {"Content-Type": "application/x-www-form-urlencoded", **HX},
        )  # fmt: skip
        assert (answer.status, answer.headers["hx-redirect"]) == (204, f"/results/{failed}")
        (job,) = jobs(config)
        assert job["status"] == "queued" and job["stages"][0]["params"]["strength"] == 0.9
        assert job["drop"]["sidecar_text"] == "img2img:\n  strength: 0.9"
        assert not list(config.outbox.rglob("error.json"))  # the failure folder is gone
        again = browser.urlencoded(f"/results/{failed}/retry", form)
        assert again.status == 409 and "is queued; only failed" in text_of(again)

    def test_wrong_yaml_changes_nothing(
        self, browser: Browser, config: Config, failed: str
    ) -> None:
        (sidecar,) = config.outbox.rglob("*.yaml")
        before = sidecar.read_bytes()
        for text, why in (("img2img: {strenght: 1}", "line 1"), ("a: [", "line 1")):
            answer = browser.urlencoded(
                f"/results/{failed}/retry", {"text": text, "action": "retry"}
            )
            assert answer.status == 409 and why in text_of(answer) and text in text_of(answer)
        (job,) = jobs(config)
        assert (job["status"], sidecar.read_bytes()) == ("failed", before)
        assert sorted(config.outbox.rglob("*.yaml")) == [sidecar]

    def test_check_changes_nothing(self, browser: Browser, config: Config, failed: str) -> None:
        answer = browser.urlencoded(f"/results/{failed}/retry", {"text": "img2img: {strength: 1}"})
        assert answer.status == 200 and "It would run img2img" in text_of(answer)
        assert jobs(config)[0]["status"] == "failed"

    def test_job_that_waits_can_be_cancelled_and_not_retried(
        self, browser: Browser, config: Config, failed: str
    ) -> None:
        browser.drop([("dog.png", picture("blue"))])
        job = next(each["id"] for each in jobs(config) if each["name"] == "dog.png")
        assert "queued; only failed" in text_of(
            browser.urlencoded(f"/results/{job}/retry", {"action": "retry"})
        )
        assert "Cancel" in text_of(browser.get(f"/results/{job}/retry"))
        browser.urlencoded(f"/results/{job}/cancel", {"x": "y"})
        assert next(j["status"] for j in jobs(config) if j["id"] == job) == "cancelled"

    def test_model_is_loaded_by_the_daemon(self, browser: Browser, daemon: StandIn) -> None:
        page = text_of(browser.get("/models"))
        assert "Missing:" in page and "Load now sd15" in page
        browser.urlencoded("/models/load", {"model": "sd15"})
        wait_for(lambda: "sd15 is loaded on cpu" in text_of(browser.get("/models?load=1", **HX)))

    def test_states_of_models(self, browser: Browser, config: Config, daemon: StandIn) -> None:
        assert text_of(browser.get("/models")).count("Not loaded") == 4
        sd15 = {"name": "sd15", "state": "loaded", "device": "cuda:1",
                "since": "2026-11-29T16:55:31Z", "bytes": 2 << 30}  # fmt: skip
        triposr = {**sd15, "name": "triposr", "state": "loading", "bytes": None}
        worker = {"worker": "local-1", "device": "cuda:1", "dtype": "float16", "gpu": None,
                  "jobs": [], "models": [sd15, triposr]}  # fmt: skip
        status = {"daemon": {"pid": 1}, "workers": [worker], "queue": {},
                  "loading": {"model": "triposr", "number": 2, "of": 2}}  # fmt: skip
        (config.outbox / "status.json").write_text(json.dumps(status))
        (page,) = wait_for(lambda: states_of(text_of(browser.get("/models"))))
        assert "Loaded on cuda:1, 2 GiB, since 2026-11-29 16:55 UTC" in page
        assert "Loading on cuda:1, since" in page and page.count("Not loaded") == 2
        browser.urlencoded("/models/load", {"model": "sd15"})
        part = browser.get("/models?load=1", **HX).body.decode()
        for number, state in enumerate(("Loaded", "Not loaded", "Loading", "Not loaded"), 1):
            place = f'id="state-{number}" hx-swap-oob="true">{state}'
            assert place in part
        queue = text_of(browser.get("/"))
        assert "Loading triposr (2 of 2) before the first job." in queue
        assert "sd15 loaded on cuda:1, 2 GiB · triposr loading on cuda:1" in queue


def states_of(page: str) -> list[str]:
    """The view of the models, once it has the new status."""
    return [page] if "Loaded on" in page else []


def test_models_name_no_path_of_the_server(browser: Browser, config: Config) -> None:
    body = browser.get("/models").body.decode()
    assert str(config.file.parent) not in body and "Load now" not in body
    assert browser.urlencoded("/models/load", {"model": "sd15"}).status == 409  # no daemon


def test_batch_is_paused_resumed_and_cancelled(browser: Browser, config: Config) -> None:
    browser.drop([("a.png", picture()), ("a.yaml", b"matrix: {img2img.strength: [0.3, 0.6]}")])
    batch = jobs(config)[0]["batch"]
    assert f"/batches/{batch}/pause" in browser.get("/").body.decode()
    part = browser.request("POST", f"/batches/{batch}/pause", b"", HX).body.decode()
    assert "<html" not in part and f"/batches/{batch}/resume" in part
    browser.request("POST", f"/batches/{batch}/resume", b"", HX)
    browser.get("/")
    browser.request("POST", "/queue/pause", b"")
    assert "/queue/resume" in browser.get("/").body.decode()
    browser.request("POST", "/queue/resume", b"")
    assert "/queue/pause" in browser.get("/").body.decode()
    browser.request("POST", f"/batches/{batch}/cancel", b"", HX)
    assert {job["status"] for job in jobs(config)} == {"cancelled"}
