"""A server that is killed at any point of a drop, and a client that then sends it again."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from dna_pipeline.ledger.tables import Batch
from dna_pipeline.operations.serving import submissions
from dna_pipeline.operations.serving.drops import DropRequest, Drops, Upload
from dna_pipeline.operations.serving.readers import Readers
from tests.integration.conftest import Site, StubProber

IMAGES = (b"an image", b"another image")
MATRIX = "matrix: {remove_background.force: [true, false]}"


def send(site: Site, sidecar: str, inbox: str | None) -> list[str]:
    """What the server does for a request; gives the ids of the jobs."""
    images = [Upload(f"{n}.png", io.BytesIO(data)) for n, data in enumerate(IMAGES)]
    request = DropRequest(images, sidecar=sidecar, inbox=inbox, token="0123456789abcdef")
    readers, writer = Readers(site.config), submissions.Submissions(site.config)
    try:
        return [job.id for job in Drops(site.config, readers, writer).queue(request).jobs]
    finally:
        readers.close()
        writer.close()


@pytest.mark.slow
@pytest.mark.parametrize(("sidecar", "inbox"), [("", None), (MATRIX, "in")])
def test_a_drop_is_made_once_wherever_the_server_is_killed(
    make_site: Callable[..., Site],
    kill_everywhere: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    sidecar: str,
    inbox: str | None,
):
    monkeypatch.setattr(submissions, "Prober", StubProber)
    number = 4 if sidecar else 2

    def act(site: Site) -> None:
        send(site, sidecar, inbox)

    def check(site: Site) -> None:
        assert len(site.jobs()) in (0, number)
        ids = send(site, sidecar, inbox)
        assert sorted(job.id for job in site.jobs()) == sorted(ids)
        assert len(ids) == number
        assert len(site.rows(Batch)) == (2 if sidecar else 0)
        for job in site.jobs():
            drop = site.drop(job)
            assert (Path(drop.claim) / job.name).read_bytes() == IMAGES[int(job.stem)]
            assert job.inbox == (inbox or "submit")
        assert list(site.inbox.rglob("*.png")) == []

    assert kill_everywhere(make_site, act, check, every=3) > 5
