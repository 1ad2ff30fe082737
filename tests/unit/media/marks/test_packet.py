"""The packet of XMP and that of glTF, from the same values."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import pytest
from PIL import Image

from dna_pipeline.media.marks.credits import read_credits
from dna_pipeline.media.marks.packet import GENERATED, NAMESPACES, Marks, json_ld, xmp

MARKS = Marks(
    tool="dna-pipeline 1.0",
    source_type=GENERATED,
    system="sd15 (diffusers)",
    system_version="dna-pipeline 1.0; sd15 sha256:abc",
    prompt='a <b>"cat"</b> & dog',
    creators=("Zoë Ångström", "Bob & Sons"),
    rights="© 2026 <Studio>",
    rating=4,
    keywords=("hero", "naïve", "]]>"),
)


def texts(packet: bytes, name: str) -> list[str | None]:
    """The texts of a property, by its XMP name."""
    prefix, _, local = name.partition(":")
    (element,) = ElementTree.fromstring(packet.decode()).iter(f"{{{NAMESPACES[prefix]}}}{local}")
    items = list(element.iter(f"{{{NAMESPACES['rdf']}}}li"))
    return [item.text for item in items] if items else [element.text]


def test_every_value_comes_back():
    packet = xmp(MARKS)
    assert packet.startswith('<?xpacket begin="\ufeff"'.encode())
    assert packet.endswith(b'<?xpacket end="w"?>')
    expected = {
        "xmp:CreatorTool": ["dna-pipeline 1.0"],
        "xmp:Rating": ["4"],
        "Iptc4xmpExt:DigitalSourceType": [GENERATED],
        "Iptc4xmpExt:AISystemUsed": [MARKS.system],
        "Iptc4xmpExt:AISystemVersionUsed": [MARKS.system_version],
        "Iptc4xmpExt:AIPromptInformation": [MARKS.prompt],
        "dc:creator": list(MARKS.creators),
        "dc:rights": [MARKS.rights],
        "dc:subject": list(MARKS.keywords),
    }
    assert {name: texts(packet, name) for name in expected} == expected


def test_the_same_values_give_the_same_bytes():
    assert xmp(MARKS) == xmp(MARKS)


def test_what_is_empty_is_left_out():
    packet = xmp(Marks("tool", keywords=("", "  ")))
    assert b"AISystem" not in packet
    assert b"dc:" not in packet
    assert json_ld(Marks("tool")) == {
        "@context": NAMESPACES, "@id": "", "xmp:CreatorTool": "tool",
    }  # fmt: skip


def test_characters_that_xml_cannot_hold():
    packet = xmp(Marks("tool", rights="a\0b\x1b[31m\ud800c\ufffe", keywords=("\x07",)))
    assert texts(packet, "dc:rights") == ["ab[31mc"]
    assert b"dc:subject" not in packet


def test_a_keyword_stands_there_once_whatever_its_case():
    assert texts(xmp(Marks("tool", keywords=("Hero", "hero ", "HERO", "cat"))), "dc:subject") == [
        "Hero", "cat",
    ]  # fmt: skip


def test_the_packet_of_gltf():
    packet = json_ld(MARKS)
    assert packet["Iptc4xmpExt:DigitalSourceType"] == GENERATED
    assert packet["dc:creator"] == {"@list": list(MARKS.creators)}
    assert packet["dc:subject"] == {"@set": list(MARKS.keywords)}
    assert packet["dc:rights"]["rdf:_1"] == {"@language": "x-default", "@value": MARKS.rights}
    assert packet["xmp:Rating"] == 4
    used = {name.partition(":")[0] for name in packet if not name.startswith("@")}
    assert used <= set(packet["@context"])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_pillow_writes_it_and_it_is_read_again(kind: str, tmp_path):
    """As a writer of pictures may do, which takes the packet for `save(..., xmp=...)`."""
    path = tmp_path / "picture"
    if kind == "PNG":  # Pillow's writer of PNG has no such argument
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp(MARKS).decode())
        Image.new("RGB", (16, 16)).save(path, kind, pnginfo=info)
    elif kind == "TIFF":
        Image.new("RGB", (16, 16)).save(path, kind, tiffinfo={700: xmp(MARKS)})
    else:
        Image.new("RGB", (16, 16)).save(path, kind, xmp=xmp(MARKS))
    found = read_credits(path)
    assert (found.creators, found.rights, found.rating) == (MARKS.creators, MARKS.rights, 4)
    assert (found.keywords, found.source_type) == (MARKS.keywords, GENERATED)
    assert Image.open(io.BytesIO(path.read_bytes())).size == (16, 16)
