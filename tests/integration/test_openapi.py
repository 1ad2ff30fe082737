"""The OpenAPI document, and everything that it allows to ask."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import structlog
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.openapi import from_asgi
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.testclient import TestClient

from dna_pipeline.config.loader import load_config
from dna_pipeline.interfaces.web import site as site_module
from dna_pipeline.interfaces.web.app import make_app
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.operations.serving import submissions
from tests.integration.conftest import Site, StubProber
from tests.ledgers import lay_out

CONFIG = {
    "version": 1,
    "models": {"key": {"provider": "border_key"}, "sd": {"provider": "diffusers", "path": "sd"}},
    "pipelines": {
        "cut": [{"remove_background": {"model": "key"}}],
        "paint": [{"img2img": {"prompt": "a chair"}}],
    },
    "inboxes": [{"path": "in", "pipeline": "cut"}],
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The application on a small ledger with jobs in several states."""
    root = tmp_path_factory.mktemp("studio")
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(50), cache_logger_on_first_use=False
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submissions, "Prober", StubProber)
        patch.setattr(site_module.Site, "events", _short(site_module.Site.events))
        site = _studio(root)
        app = make_app(site_module.Site(site.config))
        app.state.names = _names(site)
        yield app
    structlog.reset_defaults()


def _names(site: Site) -> dict[str, list[str]]:
    """What parts of paths may be, so that something is there."""
    with closing(Queries(site.config.ledger_path)) as queries:
        jobs = [row["id"] for row in queries.page()]
        batches = [row["id"] for row in queries.batch_page()]
    return {
        "job_id": jobs, "batch_id": batches, "name": ["in"],
        "path": ["manifest.json", "done.matte.png", "source/done.png"],
    }  # fmt: skip


def _studio(root: Path) -> Site:
    (root / "pipeline.yaml").write_text(yaml.safe_dump(CONFIG))
    config = load_config(root / "pipeline.yaml", {})
    for folder in (config.inboxes[0].path, config.outbox):
        folder.mkdir(parents=True)
    lay_out(config.ledger_path)
    site = Site(root, config)
    site.put("done.png")
    site.settle()
    site.run_next()
    site.put("batch.png.yaml", "matrix: {remove_background.force: [true, false]}")
    site.put("batch.png")
    site.settle()
    site.close()
    return site


def _short(real: Any) -> Any:
    """Streams that end after the first look: nothing happens in this ledger."""

    async def events(*args: Any, **keys: Any) -> AsyncGenerator[Any]:
        stream = real(*args, **keys | {"quiet_s": 0.01})
        yield await anext(stream)
        await stream.aclose()

    return events


@pytest.fixture(scope="module")
def document(app: Any) -> dict[str, Any]:
    with TestClient(app) as client:
        return client.get("/openapi.json").json()


def operations(app: Any, mode: GenerationMode) -> Iterator[tuple[str, Any]]:
    """The operations of the document, each with the requests that follow it, or that do not."""
    for result in from_asgi("/openapi.json", app).get_all_operations():
        operation = result.ok()
        yield operation.label, operation.as_strategy(generation_mode=mode)


EXCLUDED = [
    positive_data_acceptance,  # of the texts that the document calls a sidecar, few are one
    not_a_server_error,  # 503 is declared where it may come
]


def ask_all(requests: Any, names: dict[str, list[str]] | None = None) -> int:
    """Ask some of these requests, and give their number. Each answer has to be declared, and to
    have the shape that was declared for it.

    Args:
        names: take the place of parts of paths, in every request but each fourth.
    """
    number = [0]

    @settings(
        max_examples=8, database=None, derandomize=True,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=requests)
    def ask(case: schemathesis.Case) -> None:
        number[0] += 1
        for part, known in (names or {}).items() if number[0] % 4 else ():
            if part in case.path_parameters:
                case.path_parameters[part] = known[number[0] % len(known)]
        answer = case.call()
        assert answer.status_code != 500
        case.validate_response(answer, excluded_checks=EXCLUDED)

    with suppress(Unsatisfiable):  # an operation without parameters cannot be asked wrongly
        ask()
    return number[0]


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_nothing_that_is_asked_breaks_the_server(app: Any, mode: GenerationMode):
    names = app.state.names if mode == GenerationMode.POSITIVE else None
    asked = {label: ask_all(requests, names) for label, requests in operations(app, mode)}
    assert sum(number > 0 for number in asked.values()) > 10


def test_each_operation_has_a_name_and_a_subject(document: dict[str, Any]):
    names = {tag["name"] for tag in document["tags"]}
    operations = [each for path in document["paths"].values() for each in path.values()]
    ids = [each["operationId"] for each in operations]
    assert len(ids) == len(set(ids))
    for each in operations:
        assert set(each["tags"]) <= names, each["operationId"]
        assert each["description"].strip(), each["operationId"]
