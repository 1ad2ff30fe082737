"""Signatures of C2PA, read back by C2PA's own reader."""

from __future__ import annotations

import datetime
import io
import json
from pathlib import Path
from typing import Any

import c2pa
import numpy as np
import pytest
from PIL import Image

from dna_pipeline.base.errors import SigningUnavailable
from dna_pipeline.media.marks import signing
from dna_pipeline.media.marks.embed import embed
from dna_pipeline.media.marks.packet import GENERATED, REWORKED, Marks
from dna_pipeline.media.marks.signing import Claim, Signer
from dna_pipeline.media.video import write_mp4
from tests import certificates

FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    files = certificates.make(tmp_path_factory.mktemp("certificates"))
    return Signer(files.certificate, files.key)


def picture(kind: str, shade: int = 90) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 24), (shade, 20, 200)).save(file, kind)
    return file.getvalue()


def manifest(data: bytes, media_type: str) -> dict[str, Any]:
    """What the reader says of a file whose signature is valid."""
    with c2pa.Reader(media_type, io.BytesIO(data)) as reader:
        report = json.loads(reader.json())
    assert report["validation_state"] == "Valid"
    # The authority is one that nobody trusts; nothing else is wrong.
    codes = [entry["code"] for entry in report["validation_status"]]
    assert set(codes) == {"signingCredential.untrusted"}
    return report["manifests"][report["active_manifest"]]


def actions(found: dict[str, Any]) -> list[tuple[str, str | None]]:
    (assertion,) = (one for one in found["assertions"] if one["label"].startswith("c2pa.actions"))
    return [
        (action["action"], action.get("digitalSourceType"))
        for action in assertion["data"]["actions"]
    ]


def claim(source_type: str = GENERATED, parent: Path | None = None) -> Claim:
    return Claim("cat.png", "dna-pipeline", "1.0", source_type, parent)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_that_a_model_made(kind: str, signer: Signer):
    media_type = FORMATS[kind]
    marked = embed(picture(kind), media_type, Marks("tool", GENERATED, creators=("Zoë",)))
    assert marked is not None
    signed = signer.sign(marked, media_type, claim())
    assert signed is not None
    found = manifest(signed, media_type)
    assert found["signature_info"]["common_name"] == "Studio"
    assert found["claim_generator_info"][0]["name"] == "dna-pipeline"
    assert actions(found) == [("c2pa.created", GENERATED)]
    before, after = Image.open(io.BytesIO(marked)), Image.open(io.BytesIO(signed))
    assert after.tobytes() == before.tobytes()
    assert after.info["xmp"].rstrip(b"\0") == before.info["xmp"].rstrip(b"\0")
    assert b"digitalsourcetype" in after.info["xmp"]


def test_a_film(signer: Signer, tmp_path: Path):
    path = tmp_path / "film.mp4"
    write_mp4(path, [np.zeros((16, 16, 3), np.uint8)] * 3, 16, 12)
    data = embed(path.read_bytes(), "video/mp4", Marks("tool", GENERATED))
    assert data is not None
    signed = signer.sign(data, "video/mp4", claim())
    assert signed is not None
    assert actions(manifest(signed, "video/mp4")) == [("c2pa.created", GENERATED)]


def test_a_reworked_picture_names_the_image(signer: Signer, tmp_path: Path):
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(picture("JPEG"))
    signed = signer.sign(picture("PNG"), "image/png", claim(REWORKED, photo))
    assert signed is not None
    found = manifest(signed, "image/png")
    assert actions(found) == [("c2pa.opened", None), ("c2pa.edited", REWORKED)]
    (ingredient,) = found["ingredients"]
    assert (ingredient["title"], ingredient["relationship"]) == ("photo.jpg", "parentOf")


def test_the_signature_of_the_image_is_kept(signer: Signer, tmp_path: Path):
    photo = tmp_path / "photo.png"
    first = signer.sign(picture("PNG"), "image/png", claim())
    photo.write_bytes(first or b"")
    signed = signer.sign(picture("PNG", 200), "image/png", claim(REWORKED, photo))
    (ingredient,) = manifest(signed or b"", "image/png")["ingredients"]
    assert ingredient["active_manifest"]


def test_a_cut_out_of_a_photograph(signer: Signer, tmp_path: Path):
    """No model generated anything: the signature says that a photograph was edited."""
    photo = tmp_path / "photo.png"
    photo.write_bytes(picture("PNG"))
    signed = signer.sign(picture("PNG", 200), "image/png", claim("", photo))
    found = manifest(signed or b"", "image/png")
    assert actions(found) == [("c2pa.opened", None), ("c2pa.edited", None)]


def test_an_image_that_c2pa_cannot_take_in(signer: Signer, tmp_path: Path):
    image = tmp_path / "photo.bmp"
    image.write_bytes(picture("BMP"))
    assert signer.sign(picture("PNG"), "image/png", claim("", image)) is None
    signed = signer.sign(picture("PNG"), "image/png", claim(REWORKED, image))
    assert actions(manifest(signed or b"", "image/png")) == [("c2pa.created", REWORKED)]
    image.write_bytes(picture("PNG")[:60])
    signed = signer.sign(picture("PNG"), "image/png", claim(REWORKED, image))
    assert manifest(signed or b"", "image/png")


def test_a_mesh_has_no_form(signer: Signer):
    assert signer.sign(b"glTF", "model/gltf-binary", claim()) is None
    assert not {"model/gltf-binary", "glb"} & set(c2pa.Builder.get_supported_mime_types())
    assert set(c2pa.Builder.get_supported_mime_types()) >= signing.MEDIA_TYPES


def test_a_signer_that_works(signer: Signer):
    assert signer.problem() is None
    signer.try_out()


@pytest.mark.parametrize("name", ["certificate", "key"])
def test_a_file_that_is_not_there(name: str, tmp_path: Path):
    files = certificates.make(tmp_path)
    getattr(files, name).unlink()
    broken = Signer(files.certificate, files.key)
    why = broken.problem() or ""
    assert why.startswith(f"c2pa.{name}: {getattr(files, name)} cannot be read (No such file")
    with pytest.raises(SigningUnavailable, match=f"c2pa.{name}"):
        broken.try_out()


def test_the_package_is_not_installed(signer: Signer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(signing, "find_spec", lambda name: None)
    why = signer.problem() or ""
    assert "c2pa-python is not installed" in why and "extra c2pa" in why
    with pytest.raises(SigningUnavailable, match="c2pa-python is not installed"):
        signer.try_out()


def test_files_that_cannot_sign(tmp_path: Path):
    files = certificates.make(tmp_path)
    (tmp_path / "other").mkdir()
    other = certificates.make(tmp_path / "other")
    old_folder = tmp_path / "old"
    old_folder.mkdir()
    old = certificates.make(old_folder, lasts=datetime.timedelta(days=30))
    empty = tmp_path / "empty.pem"
    empty.write_bytes(b"")
    broken = {
        "another algorithm": Signer(files.certificate, files.key, "ps256"),
        "no certificate": Signer(empty, files.key),
        "no key": Signer(files.certificate, empty),
        "expired": Signer(old.certificate, old.key),
        "another's key": Signer(files.certificate, other.key),
    }
    for name, one in broken.items():
        assert one.problem() is None, name
        with pytest.raises(SigningUnavailable, match=r"c2pa cannot sign with .*pem: "):
            one.try_out()


def test_no_authority_is_asked_in_a_mere_check(tmp_path: Path):
    """The one that is named does not answer."""
    files = certificates.make(tmp_path)
    named = Signer(files.certificate, files.key, timestamp_url="http://127.0.0.1:9/")
    named.try_out(may_go_online=False)
    with pytest.raises(SigningUnavailable):
        named.try_out()
