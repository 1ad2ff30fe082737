"""Authors, rights, rating and keywords from what cameras and programs write."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from dna_pipeline.media.marks.credits import MAX_CHARS, MAX_ITEMS, Credits, read_credits
from dna_pipeline.media.marks.packet import GENERATED, Marks, xmp

DIGITAL_CAPTURE = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"


def jpeg(path: Path, **options) -> Path:
    Image.new("RGB", (16, 16), "teal").save(path, "JPEG", **options)
    return path


def exif(tags: dict[int, object]) -> Image.Exif:
    block = Image.Exif()
    for tag, value in tags.items():
        block[tag] = value
    return block


def iim(*entries: tuple[int, bytes], utf8: bool = False) -> bytes:
    """The segment APP13 with records of IPTC-IIM, as Photoshop writes it."""
    body = b"\x1c\x01\x5a\x00\x03\x1b%G" if utf8 else b""
    for number, data in entries:
        body += b"\x1c\x02" + bytes([number]) + len(data).to_bytes(2, "big") + data
    block = b"8BIM\x04\x04\0\0" + len(body).to_bytes(4, "big") + body + b"\0" * (len(body) % 2)
    segment = b"Photoshop 3.0\0" + block
    return b"\xff\xed" + (len(segment) + 2).to_bytes(2, "big") + segment


def test_a_picture_that_names_nothing(tmp_path: Path):
    assert read_credits(jpeg(tmp_path / "a.jpg")) == Credits()


def test_exif(tmp_path: Path):
    words = "café;hero\0".encode("utf-16-le")
    tags = {0x13B: "Zoë; Bob".encode(), 0x8298: "Ann\0Studio", 0x4746: 3, 0x9C9E: words}
    found = read_credits(jpeg(tmp_path / "a.jpg", exif=exif(tags)))
    assert found == Credits(("Zoë", "Bob"), "Ann; Studio", 3, ("café", "hero"))


def test_windows_own_author(tmp_path: Path):
    tags = {0x9C9D: "Zoë\0".encode("utf-16-le")}
    assert read_credits(jpeg(tmp_path / "a.jpg", exif=exif(tags))).creators == ("Zoë",)


@pytest.mark.parametrize("utf8", [True, False])
def test_iptc_iim(tmp_path: Path, utf8: bool):
    code = "utf-8" if utf8 else "latin-1"
    entries = [(80, "Zoë".encode(code)), (116, "© Studio".encode(code)), (25, b"cat"), (25, b"b")]
    path = jpeg(tmp_path / "a.jpg")
    data = path.read_bytes()
    path.write_bytes(data[:2] + iim(*entries, utf8=utf8) + data[2:])
    assert read_credits(path) == Credits(("Zoë",), "© Studio", None, ("cat", "b"))


def test_xmp_comes_first_and_keywords_are_joined(tmp_path: Path):
    packet = xmp(Marks("t", creators=("Xena",), keywords=("one", "Two")))
    tags = {0x13B: "Ed", 0x8298: "Ed & Co", 0x9C9E: "two;three\0".encode("utf-16-le")}
    found = read_credits(jpeg(tmp_path / "a.jpg", exif=exif(tags), xmp=packet))
    assert found == Credits(("Xena",), "Ed & Co", None, ("one", "Two", "three"))


def test_xmp_of_attributes(tmp_path: Path):
    """Lightroom writes plain properties as attributes."""
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="-1" '
        'xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
        f'e:DigitalSourceType="{GENERATED}"/></rdf:RDF></x:xmpmeta>'
    ).encode()
    found = read_credits(jpeg(tmp_path / "a.jpg", xmp=packet))
    assert found == Credits(rating=-1, source_type=GENERATED)


def test_what_a_camera_says_of_itself_is_no_word_on_the_result(tmp_path: Path):
    packet = xmp(Marks("t", source_type=DIGITAL_CAPTURE))
    assert read_credits(jpeg(tmp_path / "a.jpg", xmp=packet)).source_type == ""


@pytest.mark.parametrize(
    "packet",
    [
        b"<x:xmpmeta",
        b"\xff\xfe\0\0",
        b'<!DOCTYPE a [<!ENTITY b "c">]><a xmlns:dc="http://purl.org/dc/elements/1.1/">&b;</a>',
    ],
)
def test_broken_metadata_refuses_no_picture(tmp_path: Path, packet: bytes):
    path = jpeg(tmp_path / "a.jpg", xmp=packet, exif=exif({0x13B: "Ann"}))
    assert read_credits(path) == Credits(("Ann",))


def test_an_entity_is_never_expanded(tmp_path: Path):
    bomb = xmp(Marks("t", creators=("NAME",))).replace(
        b"<x:xmpmeta", b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x:xmpmeta', 1
    )
    assert b"DOCTYPE" in bomb
    path = jpeg(tmp_path / "a.jpg", xmp=bomb.replace(b"NAME", b"&a;"))
    assert read_credits(path) == Credits()


def test_no_picture_and_no_file(tmp_path: Path):
    path = tmp_path / "a.jpg"
    assert read_credits(path) == Credits()
    path.write_bytes(b"no picture")
    assert read_credits(path) == Credits()


def test_long_texts_and_lists_are_cut(tmp_path: Path):
    many = tuple(f"{number} {'x' * 2 * MAX_CHARS}" for number in range(2 * MAX_ITEMS))
    found = read_credits(_png(tmp_path / "a.png", xmp(Marks("t", keywords=many))))
    assert len(found.keywords) == MAX_ITEMS
    assert {len(word) for word in found.keywords} == {MAX_CHARS}


def _png(path: Path, packet: bytes) -> Path:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", packet.decode())
    Image.new("RGB", (16, 16)).save(path, pnginfo=info)
    return path


def test_a_photo_of_a_phone(tmp_path: Path):
    """HEIC goes through a decoder of its own. The orientation in its EXIF becomes a rating, which
    takes as many bytes."""
    photo = Path(__file__).parents[3] / "golden/heic/turned-3.heic"
    assert read_credits(photo) == Credits()
    data = photo.read_bytes()
    orientation = bytes.fromhex("0112 0003 00000001")
    assert data.count(orientation) == 1
    path = tmp_path / "a.heic"
    path.write_bytes(data.replace(orientation, bytes.fromhex("4746 0003 00000001")))
    assert read_credits(path) == Credits(rating=3)
