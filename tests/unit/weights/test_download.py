"""One file over HTTP from a server that fails in all the ways of real ones."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx2
import pytest

from dna_pipeline.base.errors import TransferFailed
from dna_pipeline.weights.download import Downloader, RemoteFile, make_client
from dna_pipeline.weights.pins import PinnedFile, Source
from tests.hub import Answer, Hub, Silent, noise, running_hub

DATA = noise("file", 500_000)
SMALL = b'{"a": 1}'
SOURCE = Source("o/r", "rev", True)


def pinned(name: str, data: bytes) -> PinnedFile:
    return PinnedFile(name, name, len(data), hashlib.sha256(data).hexdigest())


def remote(name: str = "w.safetensors", data: bytes = DATA, **options: bool) -> RemoteFile:
    return RemoteFile(pinned(name, data), SOURCE, f"model {name}", **options)


class Listener(Silent):
    """Counts bytes and keeps what is said."""

    def __init__(self) -> None:
        self.new = 0
        self.old = 0
        self.remarks: list[str] = []

    def advance(self, number: int) -> None:
        self.new += number

    def resume(self, number: int) -> None:
        self.old += number

    def remark(self, text: str) -> None:
        self.remarks.append(text)


@pytest.fixture
def hub() -> Iterator[Hub]:
    files = {"/o/r/resolve/rev/w.safetensors": DATA, "/o/r/resolve/rev/s.json": SMALL}
    with running_hub(files) as hub:
        yield hub


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture(scope="module")
def client() -> Iterator[httpx2.Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "*")
        with make_client() as client:
            yield client


@pytest.fixture
def downloader(
    hub: Hub, client: httpx2.Client, listener: Listener, waits: list[float]
) -> Downloader:
    return Downloader(client, listener, hub.env, waits.append)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "staging" / "w.safetensors"


def test_a_file_comes_whole(downloader: Downloader, listener: Listener, part: Path):
    assert downloader.fetch(remote(), part) == hashlib.sha256(DATA).hexdigest()
    assert part.read_bytes() == DATA
    assert (listener.new, listener.old) == (len(DATA), 0)


def test_it_goes_on_at_the_byte_that_was_reached(
    hub: Hub, downloader: Downloader, listener: Listener, part: Path
):
    part.parent.mkdir()
    part.write_bytes(DATA[:123_457])
    downloader.fetch(remote(), part)
    assert part.read_bytes() == DATA
    assert hub.ranges("w.safetensors") == ["bytes=123457-"]
    assert (listener.new, listener.old) == (len(DATA) - 123_457, 123_457)


def test_a_whole_file_is_not_asked_for_again(hub: Hub, downloader: Downloader, part: Path):
    part.parent.mkdir()
    part.write_bytes(DATA)
    downloader.fetch(remote(), part)
    assert hub.requests == []


def test_cut_connections_are_continued(
    hub: Hub, downloader: Downloader, waits: list[float], part: Path
):
    hub.answers["w.safetensors"] = [Answer(cut_after=200_000), Answer(cut_after=100_000)]
    downloader.fetch(remote(), part)
    assert part.read_bytes() == DATA
    assert hub.ranges("w.safetensors") == [None, "bytes=200000-", "bytes=300000-"]
    assert waits == []


def test_a_connection_that_ends_early_without_a_length_is_continued(
    hub: Hub, downloader: Downloader, part: Path
):
    hub.answers["w.safetensors"] = [Answer(cut_after=200_000, hides_length=True)]
    downloader.fetch(remote(), part)
    assert hub.ranges("w.safetensors") == [None, "bytes=200000-"]


def test_a_server_that_brings_nothing_is_given_up(
    hub: Hub, downloader: Downloader, waits: list[float], part: Path
):
    hub.always = Answer(503)
    with pytest.raises(TransferFailed, match=r"503.*is kept.*HF_ENDPOINT names a mirror"):
        downloader.fetch(remote(), part)
    assert waits == [1, 2, 4, 8, 16]


def test_failures_count_in_a_row(hub: Hub, downloader: Downloader, part: Path):
    hub.answers["w.safetensors"] = [
        *[Answer(500)] * 5, Answer(cut_after=100_000), *[Answer(502)] * 5,
    ]  # fmt: skip
    downloader.fetch(remote(), part)
    assert part.read_bytes() == DATA


@pytest.mark.parametrize("status", [429, 503])
def test_the_server_s_wait_is_kept(
    hub: Hub, downloader: Downloader, waits: list[float], part: Path, status: int
):
    hub.answers["w.safetensors"] = [Answer(status, {"Retry-After": "7"})]
    downloader.fetch(remote(), part)
    assert waits == [7]


def test_a_wait_may_be_a_date(hub: Hub, downloader: Downloader, waits: list[float], part: Path):
    when = datetime.now(UTC) + timedelta(seconds=300)
    hub.answers["w.safetensors"] = [
        Answer(429, {"Retry-After": format_datetime(when, usegmt=True)}),
        Answer(429, {"Retry-After": "soon"}),
    ]
    downloader.fetch(remote(), part)
    assert 200 < waits[0] <= 300
    assert waits[1] == 2


def test_a_wait_of_hours_is_said_and_not_kept(
    hub: Hub, downloader: Downloader, waits: list[float], part: Path
):
    hub.answers["w.safetensors"] = [Answer(429, {"Retry-After": "7200"})]
    with pytest.raises(TransferFailed, match="asks to wait 2 h; pull again then"):
        downloader.fetch(remote(), part)
    assert waits == []


def test_a_server_without_ranges_is_read_from_the_start(
    hub: Hub, downloader: Downloader, part: Path
):
    part.parent.mkdir()
    part.write_bytes(DATA[:100_000])
    hub.always = Answer(ignores_ranges=True)
    downloader.fetch(remote(), part)
    assert part.read_bytes() == DATA
    assert len(hub.requests) == 1


def test_another_part_than_was_asked_for_is_not_taken(hub: Hub, downloader: Downloader, part: Path):
    part.parent.mkdir()
    part.write_bytes(DATA[:100_000])
    hub.answers["w.safetensors"] = [
        Answer(206, {"Content-Range": "bytes 5-499999/500000"}, ignores_ranges=True)
    ]
    downloader.fetch(remote(), part)
    assert part.read_bytes() == DATA


def test_wrong_bytes_of_the_right_size_are_removed(hub: Hub, downloader: Downloader, part: Path):
    wrong = noise("wrong", len(DATA))
    hub.always = Answer(body=wrong)
    with pytest.raises(TransferFailed) as error:
        downloader.fetch(remote(), part)
    text = str(error.value)
    assert "model w.safetensors" in text
    assert hashlib.sha256(DATA).hexdigest() in text and hashlib.sha256(wrong).hexdigest() in text
    assert not part.exists()
    assert len(hub.requests) == 1, "wrong bytes from the first to the last are no accident"


def test_a_wrong_part_of_an_earlier_pull_costs_one_more_try(
    hub: Hub, downloader: Downloader, part: Path
):
    part.parent.mkdir()
    part.write_bytes(bytes(100_000))
    downloader.fetch(remote(), part)
    assert part.read_bytes() == DATA
    assert hub.ranges("w.safetensors") == ["bytes=100000-", None]


def test_a_part_that_is_too_long_is_begun_anew(hub: Hub, downloader: Downloader, part: Path):
    part.parent.mkdir()
    part.write_bytes(DATA + b"x")
    downloader.fetch(remote(), part)
    assert part.read_bytes() == DATA


@pytest.mark.parametrize("length", [len(DATA) - 1, len(DATA) + 1])
def test_another_size_is_refused_before_the_bytes_come(
    hub: Hub, downloader: Downloader, listener: Listener, part: Path, length: int
):
    hub.always = Answer(body=noise("x", length))
    with pytest.raises(TransferFailed, match=rf"received {length:,} bytes"):
        downloader.fetch(remote(), part)
    assert listener.new == 0


def test_a_body_that_does_not_end_is_cut_at_the_file_s_size(
    hub: Hub, downloader: Downloader, part: Path
):
    hub.always = Answer(body=DATA * 3, hides_length=True)
    with pytest.raises(TransferFailed, match="is not the published file"):
        downloader.fetch(remote(), part)
    assert part.stat().st_size == 0


def test_a_shorter_file_on_resuming_is_refused(hub: Hub, downloader: Downloader, part: Path):
    part.parent.mkdir()
    part.write_bytes(DATA[:100_000])
    hub.always = Answer(body=DATA[:50_000])
    with pytest.raises(TransferFailed, match="shorter file"):
        downloader.fetch(remote(), part)
    assert part.read_bytes() == DATA[:100_000]


def test_another_hash_in_the_header_is_refused_before_the_bytes_come(
    hub: Hub, downloader: Downloader, listener: Listener, part: Path
):
    hub.always = Answer(headers={"X-Linked-Etag": f'"{"0" * 64}"'})
    with pytest.raises(TransferFailed, match="0" * 64):
        downloader.fetch(remote(), part)
    assert listener.new == 0


@pytest.mark.parametrize(
    ("status", "words"), [(401, "HF_TOKEN"), (403, "HF_TOKEN"), (404, "--from FOLDER")]
)
def test_a_refusal_says_what_to_do(
    hub: Hub, downloader: Downloader, part: Path, status: int, words: str
):
    hub.always = Answer(status)
    with pytest.raises(TransferFailed, match=words):
        downloader.fetch(remote(), part)
    assert len(hub.requests) == 1


def test_a_host_that_is_not_there_is_said(
    downloader: Downloader, hub: Hub, waits: list[float], part: Path
):
    downloader.env = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    with pytest.raises(TransferFailed, match=r"http://127\.0\.0\.1:9: .*HTTPS_PROXY"):
        downloader.fetch(remote(), part)
    assert len(waits) == 5


def test_a_name_without_an_address_is_told_as_no_network(downloader: Downloader, part: Path):
    downloader.env = {"HF_ENDPOINT": "http://hub.invalid"}
    with pytest.raises(TransferFailed, match=r"as on a machine without a network .*models import"):
        downloader.fetch(remote(), part)


def test_an_endpoint_that_is_no_address_is_said(downloader: Downloader, part: Path):
    downloader.env = {"HF_ENDPOINT": "nonsense"}
    with pytest.raises(TransferFailed, match="nonsense"):
        downloader.fetch(remote(), part)


@pytest.fixture
def certificate(tmp_path: Path, lacking: Callable[[str], None]) -> Path:
    """A certificate of 127.0.0.1 that no system trusts, with its key."""
    path = tmp_path / "server.pem"
    command = [
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x",
        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", f"{path}.crt",
    ]  # fmt: skip
    if shutil.which("openssl") is None:
        lacking("no openssl, which makes certificates")
    subprocess.run(command, check=True, capture_output=True)
    with path.open("ab") as file:
        file.write(Path(f"{path}.crt").read_bytes())
    return path


def test_certificates_are_checked(
    hub: Hub,
    downloader: Downloader,
    waits: list[float],
    part: Path,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("NO_PROXY", "*")
    hub.encrypt(certificate)
    downloader.env = {"HF_ENDPOINT": hub.url}
    with pytest.raises(TransferFailed, match="SSL_CERT_FILE"):
        downloader.fetch(remote(), part)
    assert (hub.requests, waits) == ([], [])
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    with make_client() as trusting:
        downloader.client = trusting
        downloader.fetch(remote(), part)
    assert part.read_bytes() == DATA


def test_the_token_goes_to_the_hub_alone(hub: Hub, downloader: Downloader, part: Path):
    files = {"/elsewhere": DATA}
    downloader.env = {**hub.env, "HF_TOKEN": " secret\n"}
    with running_hub(files) as other:
        place = f"http://localhost:{other.port}/elsewhere"
        hub.answers["w.safetensors"] = [Answer(302, {"Location": place}, body=b"")] * 2
        part.parent.mkdir()
        part.write_bytes(DATA[:1000])
        downloader.fetch(remote(), part)
        assert [one.authorization for one in hub.requests] == ["Bearer secret"]
        assert [one.authorization for one in other.requests] == [None]
        assert [one.range for one in other.requests] == ["bytes=1000-"]


def test_the_token_does_not_go_to_github(hub: Hub, downloader: Downloader, part: Path):
    hub.files = {"/o/r/releases/download/rev/w.safetensors": DATA}
    downloader.env = {**hub.env, "HF_TOKEN": "secret"}
    downloader.fetch(
        RemoteFile(pinned("w.safetensors", DATA), Source("o/r", "rev", False), "m"), part
    )
    assert [one.authorization for one in hub.requests] == [None]


def test_redirects_in_a_circle_are_given_up(hub: Hub, downloader: Downloader, part: Path):
    hub.always = Answer(302, {"Location": "/o/r/resolve/rev/w.safetensors"}, body=b"")
    with pytest.raises(TransferFailed, match="redirects"):
        downloader.fetch(remote(), part)


def test_a_small_file_that_changed_is_taken_only_when_allowed(
    hub: Hub, downloader: Downloader, part: Path
):
    changed = b'{"a": 1, "b": 2}'
    hub.files["/o/r/resolve/rev/s.json"] = changed
    with pytest.raises(TransferFailed, match="--accept-changed"):
        downloader.fetch(remote("s.json", SMALL), part)
    assert not part.exists() or part.stat().st_size == 0
    sha256 = downloader.fetch(remote("s.json", SMALL, accepts_changed=True), part)
    assert sha256 == hashlib.sha256(changed).hexdigest()
    assert part.read_bytes() == changed


def test_changed_weights_are_never_taken(hub: Hub, downloader: Downloader, part: Path):
    hub.always = Answer(body=noise("wrong", len(DATA)))
    with pytest.raises(TransferFailed) as error:
        downloader.fetch(remote(accepts_changed=True), part)
    assert "--accept-changed" not in str(error.value)


def test_a_small_file_has_a_largest_size(hub: Hub, downloader: Downloader, part: Path):
    hub.always = Answer(body=bytes(5 << 20), hides_length=True)
    with pytest.raises(TransferFailed, match="is not the published file"):
        downloader.fetch(remote("s.json", SMALL, accepts_changed=True), part)


def test_a_hard_link_to_somebody_s_file_is_never_written_to(
    downloader: Downloader, part: Path, tmp_path: Path
):
    original = tmp_path / "original"
    original.write_bytes(b"theirs")
    part.parent.mkdir()
    part.hardlink_to(original)
    downloader.fetch(remote(), part)
    assert part.read_bytes() == DATA
    assert original.read_bytes() == b"theirs"
