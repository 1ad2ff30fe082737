"""Images that a server was sent."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.errors import ConfigError, ImageUnreadable, JobError
from dna_pipeline.config.schema import Config
from dna_pipeline.intake.discovery.probe import Probed
from dna_pipeline.ledger import health
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.store import Ledger
from dna_pipeline.operations.serving import submissions as module
from dna_pipeline.operations.serving.submissions import Submissions
from dna_pipeline.operations.submit import Refused, Submission
from tests.serving import replace_ledger


class StubProber:
    """Answers by what the file begins with. A real one decodes in a child process."""

    made: list[StubProber]
    at_work = 0
    most_at_work = 0

    def __init__(self) -> None:
        StubProber.made.append(self)
        self.is_closed = False

    def probe(self, path: Path) -> Probed | JobError:
        StubProber.at_work += 1
        StubProber.most_at_work = max(StubProber.most_at_work, StubProber.at_work)
        try:
            if path.read_bytes().startswith(b"broken"):
                return ImageUnreadable("breaks off")
            return Probed(64, 48)
        finally:
            StubProber.at_work -= 1

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    StubProber.made, StubProber.at_work, StubProber.most_at_work = [], 0, 0
    monkeypatch.setattr(module, "Prober", StubProber)


@pytest.fixture
def submissions(config: Config, ledger: Ledger) -> Iterator[Submissions]:
    with closing(Submissions(config)) as submissions:
        yield submissions


def image(name: str = "cat.png", data: bytes = b"an image") -> Submission:
    return Submission(name, BytesIO(data))


def jobs(config: Config) -> list[dict[str, Any]]:
    with closing(Queries(config.ledger_path)) as queries:
        return queries.jobs()


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_an_image_that_comes_during_a_repair_is_refused(submissions: Submissions, config: Config):
    submissions.submit(image(), {})
    building = health.building_file(config.ledger_path)
    building.touch()
    for action in (
        lambda: submissions.submit(image(), {}),
        lambda: submissions.retry(jobs(config)[0]["id"]),
        submissions.ledger,
    ):
        with pytest.raises(health.LedgerReplaced, match="is being rebuilt"):
            action()
    building.unlink()
    assert len(jobs(config)) == 1
    submissions.submit(image(), {})


def test_an_image_that_is_decoded_while_a_repair_begins_is_refused(
    submissions: Submissions, config: Config, monkeypatch: pytest.MonkeyPatch
):
    before = StubProber.probe

    def probe(self: StubProber, path: Path) -> Probed | JobError:
        health.building_file(config.ledger_path).touch()
        return before(self, path)

    monkeypatch.setattr(StubProber, "probe", probe)
    with pytest.raises(health.LedgerReplaced, match="is being rebuilt"):
        submissions.submit(image(), {})
    assert jobs(config) == []


def test_an_image_is_a_job_when_the_call_returns(submissions: Submissions, config: Config):
    job = submissions.submit(image(), {"remove_background": {"force": True}, "priority": 7})
    (row,) = jobs(config)
    assert (row["id"], row["status"], row["name"]) == (job, "queued", "cat.png")
    assert (row["inbox"], row["priority"]) == ("submit", 7)
    claimed = files(config.data / "claims")
    assert {path.rpartition("/")[2] for path in claimed} == {"cat.png", "cat.png.yaml"}


def test_a_refused_image_leaves_nothing(submissions: Submissions, config: Config):
    with pytest.raises(Refused, match="breaks off") as caught:
        submissions.submit(image(data=b"broken"), {})
    assert caught.value.error.code == "image_unreadable"
    assert jobs(config) == []
    assert files(config.data / "claims") == set()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"remove_background": {"forse": True}}, "force"),
        ({"remove_background": {"force": "perhaps"}}, "force"),
        ({"pipeline": "nowhere"}, "nowhere"),
        ({"prompt": "a chair"}, "prompt"),
        ({"images": ["/etc/passwd"]}, "images"),
        ({"matrix": {"remove_background.force": [True, False]}}, "matrix"),
    ],
)
def test_wrong_values_are_refused(
    submissions: Submissions, config: Config, values: dict[str, Any], says: str
):
    with pytest.raises(ConfigError, match=says):
        submissions.submit(image(), values)
    assert jobs(config) == []


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.png", "/etc/evil.png", "..", ".", "", "/", "a/../../evil.png",
        "\\\\host\\x.png",
        "C:\\evil.png", "..\\..\\evil.png", "nul\x00evil.png", "line\nbreak.png", ".hidden.png",
        "x" * 300 + ".png", "\udcff.png", "con.png", "-rf.png", "$(evil).png", "evil.png/",
    ],
)  # fmt: skip
def test_a_name_is_never_a_path(
    submissions: Submissions, config: Config, tmp_path: Path, name: str
):
    before = files(tmp_path)
    try:
        submissions.submit(image(name), {})
    except (ConfigError, OSError, ValueError):
        assert jobs(config) == []
    new = files(tmp_path) - before
    assert all(path.startswith("data/") for path in new)
    assert not list(tmp_path.parent.glob("evil*"))
    assert {path.count("/") for path in files(config.data / "claims")} <= {1}


@pytest.mark.slow
def test_threads_may_share_it(submissions: Submissions, config: Config):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: submissions.submit(image(f"{n}.png"), {}), range(24)))
    assert len(set(made)) == 24
    assert {row["id"] for row in jobs(config)} == set(made)
    assert {row["name"] for row in jobs(config)} == {f"{n}.png" for n in range(24)}
    assert len(StubProber.made) <= module.MOST_PROBERS
    assert StubProber.most_at_work <= module.MOST_PROBERS


@pytest.mark.slow
def test_the_first_image_makes_the_ledger(config: Config):
    with closing(Submissions(config)) as submissions:
        job = submissions.submit(image(), {})
    assert [row["id"] for row in jobs(config)] == [job]


def test_another_ledger_gets_what_comes_after_it(
    submissions: Submissions, config: Config, ledger: Ledger
):
    submissions.submit(image("before.png"), {})
    ledger.close()
    replace_ledger(config)
    submissions.submit(image("after.png"), {})
    assert [row["name"] for row in jobs(config)] == ["after.png"]


def test_the_end_closes_its_decoders(config: Config, ledger: Ledger):
    submissions = Submissions(config)
    submissions.submit(image(), {})
    submissions.close()
    assert [prober.is_closed for prober in StubProber.made] == [True]
