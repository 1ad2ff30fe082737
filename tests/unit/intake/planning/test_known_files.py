from pathlib import Path

import pytest

from dna_pipeline.base.errors import SidecarInvalid
from dna_pipeline.base.naming import printable
from dna_pipeline.config.schema import Inbox
from dna_pipeline.intake.discovery.candidates import Unreadable
from dna_pipeline.intake.discovery.scan import FileStat
from dna_pipeline.intake.planning.known_files import KnownFiles, Version, rows_of
from dna_pipeline.intake.planning.references import read_reference
from dna_pipeline.ledger import drops
from dna_pipeline.ledger.store import Ledger


def stat(size: int = 1, mtime: int = 1, ctime: int = 1) -> FileStat:
    return FileStat(size, mtime, ctime, 7, 1)


@pytest.fixture
def ledger(tmp_path: Path):
    ledger = Ledger(tmp_path / "ledger.db")
    yield ledger
    ledger.close()


def test_a_version_comes_back_from_the_ledger(ledger) -> None:
    name = "caf\udce9.png"
    known = KnownFiles("in", ledger)
    assert known.version(name) is None
    for version in (
        Version({name: stat(), "cat.yaml": stat(2)}, "key", "sidecar_ambiguous", "d1"),
        Version({name: stat(3)}, "other", None, "d2"),
    ):
        ledger.transact(lambda s, v=version: drops.remember_files(s, rows_of("in", {name: v})))
        known.note({name: version})
        assert known.version(name) == KnownFiles("in", ledger).version(name) == version
    assert KnownFiles("another", ledger).version(name) is None


def test_what_was_taken_is_the_same_only_if_all_of_it_is(ledger) -> None:
    known = KnownFiles("in", ledger)
    stats = {"cat.png": stat(), "cat.yaml": stat(2)}
    known.note({"cat.png": Version(stats, "key")})
    assert known.is_unchanged("cat.png", stats, None)
    assert not known.is_unchanged("cat.png", stats, "sidecar_ambiguous")
    assert not known.is_unchanged("cat.png", {"cat.png": stat()}, None)
    assert not known.is_unchanged("cat.png", stats | {"cat.png": stat(ctime=2)}, None)
    assert not known.is_unchanged("dog.png", stats, None)


def test_what_was_ignored_is_the_same_until_it_is_written(ledger) -> None:
    known = KnownFiles("in", ledger)
    known.note({name: Version({name: stat()}) for name in ("cat.png", "job.yaml")})
    assert known.is_unchanged("cat.png", {"cat.png": stat(ctime=2), "cat.yaml": stat(9)}, None)
    assert not known.is_unchanged("cat.png", {"cat.png": stat(mtime=2)}, None)
    both = {"cat.png": stat(), "job.yaml": stat()}
    assert known.is_unchanged("job.yaml", both, None)
    assert not known.is_unchanged("job.yaml", both | {"cat.png": stat(size=2)}, None)
    assert not known.is_unchanged("job.yaml", both | {"new.png": stat()}, None)


@pytest.mark.parametrize(
    ("text", "image"),
    [("image: a/b.png", "a/b.png"), ("priority: 1", None), ("image: [a]", None), ("", None)],
)
def test_what_a_yaml_names(tmp_path: Path, text: str, image: str | None) -> None:
    (tmp_path / "a.yaml").write_text(text)
    assert read_reference(Inbox("in", tmp_path, "cut"), "a.yaml") == image


def test_a_yaml_that_cannot_be_read_or_parsed_names_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [")
    inbox = Inbox("in", tmp_path, "cut")
    assert isinstance(read_reference(inbox, "a.yaml"), SidecarInvalid)
    assert read_reference(inbox, "none.yaml") == Unreadable("No such file or directory")


def test_printable_names() -> None:
    assert printable("größe.png") == "größe.png"
    assert printable("caf\udce9.png") == "caf\\xe9.png"
