"""Files of results over HTTP: which there are, and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from dna_pipeline.base.errors import StageFailed
from dna_pipeline.ledger import queue, requests
from dna_pipeline.ledger.queries import Queries
from dna_pipeline.ledger.tables import ArtifactRow
from dna_pipeline.operations.serving import result_files
from dna_pipeline.operations.serving.result_files import NoSuchFile, find_file, list_files
from tests.integration.conftest import Site, StubProber
from tests.web import client_of

DATA = bytes(range(256)) * 40


@pytest.fixture
def client(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    with client_of(site.config, monkeypatch, StubProber) as client:
        yield client


@pytest.fixture
def queries(site: Site) -> Iterator[Queries]:
    queries = Queries(site.config.ledger_path)
    yield queries
    queries.close()


def published(site: Site, name: str = "cat.png", **roles: str) -> str:
    """The id of a completed job; `roles` gives the roles of its files by their endings."""
    site.put(name)
    site.settle()
    job = site.claim_next()
    files = {f"{job.stem}.{ending}": role for ending, role in roles.items()} or None
    site.finish(job, DATA, files)
    site.publish()
    return job.id


def failed(site: Site, detail: str) -> str:
    site.put("cat.png")
    site.settle()
    job = site.claim_next()
    site.ledger.transact(lambda s: queue.fail(s, job.id, StageFailed(detail).failure()))
    site.publish()
    return job.id


def folder_of(site: Site) -> Path:
    (name,) = site.folders()
    return site.outbox / name


def url(job: str, path: str) -> str:
    return f"/api/v1/jobs/{job}/files/{quote(path)}"


# --- what there is ---


def test_a_job_lists_its_artifacts_its_manifest_and_its_originals(site: Site, queries: Queries):
    site.put("cat.png.yaml", "tags: [a]")
    job = published(site)
    listed = {file.path: file.role for file in list_files(queries.job(job))}
    assert listed == {
        "cat.matte.png": "matte", "manifest.json": "manifest",
        "source/cat.png": "original", "source/cat.png.yaml": "sidecar",
    }  # fmt: skip
    for path in listed:
        assert find_file(site.config, queries, job, path=path).bytes > 0


def test_a_failure_lists_its_reports(site: Site, queries: Queries):
    job = failed(site, "for a reason")
    assert find_file(site.config, queries, job, role="error").name == "error.json"
    assert find_file(site.config, queries, job, path="ERROR.txt").media_type == "text/plain"
    assert find_file(site.config, queries, job, role="original").name == "cat.png"


def test_a_role_means_the_glb_of_several_meshes(site: Site, queries: Queries):
    job = published(site, obj="mesh", glb="mesh", mtl="material")
    assert find_file(site.config, queries, job, role="mesh").name == "cat.glb"
    assert find_file(site.config, queries, job, role="mesh").media_type == "model/gltf-binary"


def test_rows_that_share_a_folder_have_their_own_files(site: Site, queries: Queries):
    site.put("cat.png.yaml", "matrix: {remove_background.force: [true, false]}")
    site.put("cat.png")
    site.settle()
    for job in site.jobs():
        site.ledger.transact(lambda s, i=job.id: requests.request_cancel(s, i))
    site.publish()
    assert len({job.publish_name for job in site.jobs()}) == 1
    for job in site.jobs():
        report = find_file(site.config, queries, job.id, role="error")
        assert json.loads(report.read())["job"]["id"] == job.id
        assert find_file(site.config, queries, job.id, role="original").bytes == len(b"an image")
        request = find_file(site.config, queries, job.id, role="sidecar")
        assert b"force" in request.read()


@pytest.mark.parametrize(
    "path",
    [
        "", ".", "..", "../../status.json", "source", "source/", "/etc/passwd", "cat.matte.png/",
        "./cat.matte.png", "source/../cat.matte.png", "CAT.MATTE.PNG", "cat.matte.png\0",
        "%2e%2e/status.json", "..\\status.json", "notes.txt",
    ],
)  # fmt: skip
def test_no_other_path_is_served(site: Site, client: TestClient, queries: Queries, path: str):
    job = published(site)
    (folder_of(site) / "notes.txt").write_text("of people")
    with pytest.raises(NoSuchFile):
        find_file(site.config, queries, job, path=path)
    # Each character is escaped, or the client would resolve the path itself.
    escaped = "".join(f"%{byte:02x}" for byte in path.encode())
    answer = client.get(f"/api/v1/jobs/{job}/files/{escaped}")
    assert answer.status_code == 404
    assert answer.json()["code"] in ("unknown_file", "not_found")


def test_links_lead_nowhere(site: Site, client: TestClient, tmp_path: Path):
    job = published(site)
    file = folder_of(site) / "cat.matte.png"
    secret = tmp_path / "secret.png"
    secret.write_bytes(file.read_bytes())
    file.unlink()
    file.symlink_to(secret)
    answer = client.get(url(job, "cat.matte.png"))
    assert answer.status_code == 404
    assert answer.json()["message"].startswith(f"the files of job {job[:8]} are not all")


def test_linked_folders_lead_nowhere(site: Site, client: TestClient, tmp_path: Path):
    job = published(site)
    folder = folder_of(site)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert client.get(url(job, "cat.matte.png")).status_code == 404


def test_a_link_that_comes_after_the_look_leads_nowhere(
    site: Site, queries: Queries, tmp_path: Path
):
    job = published(site)
    found = find_file(site.config, queries, job, role="matte")
    found.path.rename(tmp_path / "moved.png")
    found.path.symlink_to(tmp_path / "moved.png")
    with pytest.raises(NoSuchFile):
        found.open()


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(site: Site, client: TestClient):
    job = published(site)
    file = folder_of(site) / "cat.matte.png"
    file.unlink()
    os.mkfifo(file)
    assert client.get(url(job, "cat.matte.png")).status_code == 404


def test_a_folder_that_people_moved_is_said_to_be_gone(site: Site, client: TestClient):
    job = published(site)
    folder_of(site).rename(site.outbox / "mine")
    answer = client.get(url(job, "manifest.json"))
    assert answer.status_code == 404
    assert "somebody moved or removed them" in answer.json()["message"]


def test_a_job_that_has_not_ended_has_no_files(site: Site, client: TestClient):
    site.put("cat.png")
    site.settle()
    answer = client.get(url(site.job().id, "manifest.json"))
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_file")


# --- how they come ---


def test_a_file_comes_whole_with_its_hash_as_tag(site: Site, client: TestClient):
    job = published(site)
    answer = client.get(url(job, "cat.matte.png"))
    assert answer.content == DATA
    assert answer.headers["etag"] == f'"{hashlib.sha256(DATA).hexdigest()}"'
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == 'inline; filename="cat.matte.png"'
    assert answer.headers["accept-ranges"] == "bytes"


def test_a_file_that_was_changed_has_another_tag(site: Site, client: TestClient):
    job = published(site)
    before = client.get(url(job, "cat.matte.png")).headers["etag"]
    (folder_of(site) / "cat.matte.png").write_bytes(b"shorter")
    answer = client.get(url(job, "cat.matte.png"))
    assert answer.content == b"shorter"
    assert answer.headers["etag"] != before


@pytest.mark.parametrize(
    ("ending", "recorded", "media_type", "disposition"),
    [
        ("glb", "model/gltf-binary", "model/gltf-binary", "inline"),
        ("mp4", "video/mp4", "video/mp4", "inline"),
        ("obj", "model/obj", "model/obj", "attachment"),
        ("ply", "model/ply", "model/ply", "attachment"),
        ("stl", "model/stl", "model/stl", "attachment"),
        ("yaml", "application/yaml", "text/plain; charset=utf-8", "attachment"),
        ("svg", "image/svg+xml", "image/svg+xml", "attachment"),
        ("html", "text/html", "text/html; charset=utf-8", "attachment"),
        ("bin", "image/png\r\nx: y", "application/octet-stream", "attachment"),
    ],
)
def test_types(
    site: Site, client: TestClient, ending: str, recorded: str, media_type: str, disposition: str
):
    job = published(site, **{ending: "mesh"})
    site.ledger.transact(lambda s: s.execute(update(ArtifactRow).values(media_type=recorded)))
    answer = client.get(url(job, f"cat.{ending}"))
    assert answer.headers["content-type"] == media_type
    assert answer.headers["content-disposition"] == f'{disposition}; filename="cat.{ending}"'
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"


def test_names_of_other_scripts(site: Site, client: TestClient):
    job = published(site, "猫 é.png")
    answer = client.get(url(job, "猫 é.matte.png"))
    assert answer.content == DATA
    assert answer.headers["content-disposition"] == (
        "inline; filename*=utf-8''%E7%8C%AB%20%C3%A9.matte.png"
    )


def test_names_that_are_no_text(site: Site, client: TestClient):
    site.put(os.fsdecode(b"\xff.png"))
    site.settle()
    job = site.run_next()
    (original,) = [
        file for file in client.get(f"/api/v1/jobs/{job.id}").json()["files"]
        if file["role"] == "original"
    ]  # fmt: skip
    assert client.get(original["url"]).content == b"an image"


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-9", slice(0, 10)),
        ("bytes=10-", slice(10, None)),
        ("bytes=-5", slice(-5, None)),
        ("bytes=0-99999999", slice(0, None)),
    ],
)
def test_ranges(site: Site, client: TestClient, asked: str, part: slice):
    job = published(site)
    answer = client.get(url(job, "cat.matte.png"), headers={"range": asked})
    assert answer.status_code == 206
    assert answer.content == DATA[part]
    first, last, _ = part.indices(len(DATA))
    assert answer.headers["content-range"] == f"bytes {first}-{last - 1}/{len(DATA)}"


def test_several_ranges(site: Site, client: TestClient):
    job = published(site)
    answer = client.get(url(job, "cat.matte.png"), headers={"range": "bytes=0-1,100-101"})
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert b"\r\n\r\n" + DATA[100:102] + b"\r\n" in answer.content


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("bytes=999999-", 416),
        ("bytes=-0", 416),
        ("bytes=9-1", 400),
        ("lines=1-2", 400),
        ("bytes=x", 400),
        ("bytes", 400),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(0, 400, 2)), 200),
    ],
)
def test_ranges_that_are_wrong(site: Site, client: TestClient, asked: str, status: int):
    job = published(site)
    answer = client.get(url(job, "cat.matte.png"), headers={"range": asked})
    assert answer.status_code == status
    if status == 416:
        assert answer.headers["content-range"] == f"bytes */{len(DATA)}"
    if status != 200:
        assert answer.json()["code"] == "range_invalid"


def test_a_part_of_another_file_is_not_mixed_in(site: Site, client: TestClient):
    job = published(site)
    tag = client.get(url(job, "cat.matte.png")).headers["etag"]
    headers = {"range": "bytes=0-9", "if-range": tag}
    assert client.get(url(job, "cat.matte.png"), headers=headers).status_code == 206
    headers["if-range"] = '"another"'
    answer = client.get(url(job, "cat.matte.png"), headers=headers)
    assert (answer.status_code, answer.content) == (200, DATA)


@pytest.mark.parametrize("form", ["{}", "W/{}", '"x", {}', "*"])
def test_a_file_that_the_client_has_does_not_come_again(site: Site, client: TestClient, form: str):
    job = published(site)
    tag = client.get(url(job, "cat.matte.png")).headers["etag"]
    answer = client.get(url(job, "cat.matte.png"), headers={"if-none-match": form.format(tag)})
    assert (answer.status_code, answer.content) == (304, b"")


def test_head_gives_the_headers_alone(site: Site, client: TestClient):
    job = published(site)
    answer = client.head(url(job, "cat.matte.png"))
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(DATA))


# --- no path of the server ---


def test_reports_name_no_folder_of_the_server(site: Site, client: TestClient):
    job = failed(site, f"{site.config.data}/models/x: no such file; {site.root}/pipeline.yaml")
    error = client.get(url(job, "error.json"))
    assert error.json()["detail"] == "data/models/x: no such file; ./pipeline.yaml"
    text = client.get(url(job, "ERROR.txt")).text
    assert "data/models/x" in text
    assert str(site.root) not in error.text + text


def test_a_report_without_paths_comes_as_it_is(
    site: Site, client: TestClient, make_site: Callable[..., Site]
):
    job = published(site)
    file = folder_of(site) / "manifest.json"
    answer = client.get(url(job, "manifest.json"))
    assert answer.content == file.read_bytes()
    assert answer.headers["etag"] == f'"{hashlib.sha256(file.read_bytes()).hexdigest()}"'
    assert answer.headers["content-type"] == "application/json"


# --- where folders cannot be opened one by one, as on Windows ---


def test_a_file_is_opened_by_its_path(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").write_bytes(b"x")
    with result_files._open_by_path(tmp_path, ("a", "b")) as file:
        assert file.readall() == b"x"


@pytest.mark.parametrize("parts", [("link", "b"), ("a", "link"), ("a", "none")])
def test_a_path_with_a_link_is_not_opened(tmp_path: Path, parts: tuple[str, ...]):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "a/link").symlink_to(tmp_path / "a/b")
    with pytest.raises(OSError):
        result_files._open_by_path(tmp_path, parts)
