"""The values of a file's marks, and how XMP and glTF write them.

Properties: IPTC Photo Metadata Standard 2025.1, whose XMP names begin with `Iptc4xmpExt`. Packet:
XMP specification, part 1 (ISO 16684-1). The texts depend on the values alone: no time, no id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
"""Start of the names in IPTC's list of digital source types."""

GENERATED = f"{SOURCE_TYPES}trainedAlgorithmicMedia"
"""Digital source type of media that a trained model made."""
REWORKED = f"{SOURCE_TYPES}compositeWithTrainedAlgorithmicMedia"
"""Digital source type of media that a trained model changed, or that hold parts made by one."""
SYNTHETIC = frozenset({GENERATED, REWORKED, f"{SOURCE_TYPES}compositeSynthetic"})
"""Digital source types that say that a model had a part in the media."""

NAMESPACES = {
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
}
RECIPE_NAMESPACE = "urn:dna-pipeline:xmp:1"
"""Namespace of the property `Recipe`, which no standard has."""
_META = "adobe:ns:meta/"
_HEAD = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
_TAIL = '\n<?xpacket end="w"?>'

_UNUSABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 has no form for."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Statements of a file about its origin; an empty value is left out.

    Attributes:
        tool: the program, as `xmp:CreatorTool`.
        source_type: one of IPTC's digital source types, as an address.
        system, system_version: the models that generated it, and their versions.
        prompt: what the models were asked for.
        creators, rights, rating: of the image that it was made from; the rating is -1 (rejected)
            to 5.
        keywords: what it shows or belongs to.
        recipe: how it was made, as JSON. A .glb has it elsewhere, in the extras of its mesh.
    """

    tool: str
    source_type: str = ""
    system: str = ""
    system_version: str = ""
    prompt: str = ""
    creators: tuple[str, ...] = ()
    rights: str = ""
    rating: int | None = None
    keywords: tuple[str, ...] = ()
    recipe: str = ""

    @property
    def is_empty(self) -> bool:
        """True if nothing is said beyond the program's name and the recipe, so that the file needs
        no mark."""
        return self == Marks(self.tool, recipe=self.recipe)

    def texts(self) -> dict[str, str]:
        """The properties that are one text, by their XMP names."""
        values = {
            "xmp:CreatorTool": self.tool,
            "xmp:Rating": "" if self.rating is None else str(self.rating),
            "Iptc4xmpExt:DigitalSourceType": self.source_type,
            "Iptc4xmpExt:AISystemUsed": self.system,
            "Iptc4xmpExt:AISystemVersionUsed": self.system_version,
            "Iptc4xmpExt:AIPromptInformation": self.prompt,
        }
        return {name: text for name, value in values.items() if (text := usable(value))}


def usable(text: str) -> str:
    """The text without characters that XML cannot hold, and without blanks around it."""
    return _UNUSABLE.sub("", text).strip()


def unique(texts: Iterable[str]) -> tuple[str, ...]:
    """The texts without blanks around them, each once, whatever its case; empty ones left out."""
    by_name: dict[str, str] = {}
    for text in map(usable, texts):
        if text:
            by_name.setdefault(text.casefold(), text)
    return tuple(by_name.values())


def xmp(marks: Marks) -> bytes:
    """The XMP packet in UTF-8, such as Pillow's `save(..., xmp=...)` takes."""
    for prefix, address in {**NAMESPACES, "x": _META, "dna": RECIPE_NAMESPACE}.items():
        ElementTree.register_namespace(prefix, address)
    root = ElementTree.Element(f"{{{_META}}}xmpmeta")
    rdf = ElementTree.SubElement(root, _name("rdf:RDF"))
    about = ElementTree.SubElement(rdf, _name("rdf:Description"), {_name("rdf:about"): ""})
    for name, text in marks.texts().items():
        ElementTree.SubElement(about, _name(name)).text = text
    if recipe := usable(marks.recipe):
        ElementTree.SubElement(about, f"{{{RECIPE_NAMESPACE}}}Recipe").text = recipe
    _add_list(about, "dc:creator", "rdf:Seq", unique(marks.creators))
    _add_list(about, "dc:rights", "rdf:Alt", unique([marks.rights]), language="x-default")
    _add_list(about, "dc:subject", "rdf:Bag", unique(marks.keywords))
    ElementTree.indent(root, " ")
    return (_HEAD + ElementTree.tostring(root, "unicode") + _TAIL).encode()


def json_ld(marks: Marks) -> dict[str, Any]:
    """The packet as glTF's extension KHR_xmp_json_ld writes it."""
    packet: dict[str, Any] = {"@context": dict(NAMESPACES), "@id": "", **marks.texts()}
    if "xmp:Rating" in packet:
        packet["xmp:Rating"] = marks.rating
    if creators := unique(marks.creators):
        packet["dc:creator"] = {"@list": list(creators)}
    if rights := usable(marks.rights):
        words = {"@language": "x-default", "@value": rights}
        packet["dc:rights"] = {"@type": "rdf:Alt", "rdf:_1": words}
    if keywords := unique(marks.keywords):
        packet["dc:subject"] = {"@set": list(keywords)}
    return packet


def _name(prefixed: str) -> str:
    prefix, _, local = prefixed.partition(":")
    return f"{{{NAMESPACES[prefix]}}}{local}"


def _add_list(
    about: ElementTree.Element, name: str, kind: str, texts: tuple[str, ...], language: str = ""
) -> None:
    if not texts:
        return
    items = ElementTree.SubElement(ElementTree.SubElement(about, _name(name)), _name(kind))
    for text in texts:
        item = ElementTree.SubElement(items, _name("rdf:li"))
        item.text = text
        if language:
            item.set("{http://www.w3.org/XML/1998/namespace}lang", language)
