from __future__ import annotations

import pytest

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.operations.service.drives import first_share, mapped_drive, refuse_mapped

DRIVES = {"Z:": "\\\\nas\\studio", "Y:": "\\\\nas\\root\\"}


@pytest.mark.parametrize(
    ("place", "written"),
    [
        ("Z:\\inbox\\a b", "\\\\nas\\studio\\inbox\\a b"),
        ("z:/inbox/a", "\\\\nas\\studio\\inbox\\a"),
        ("Y:\\inbox", "\\\\nas\\root\\inbox"),
        ("Z:\\", "\\\\nas\\studio\\"),
    ],
)
def test_a_network_drive_is_refused_with_its_unc_name(place: str, written: str):
    with pytest.raises(ConfigError) as error:
        refuse_mapped(["C:\\data", place], DRIVES.get)
    assert str(error.value).endswith(f"Write {written} instead")
    assert str(error.value).startswith(f"{place}: the drive {place[:2].upper()} is")


@pytest.mark.parametrize("place", ["C:\\x", "\\\\nas\\studio", "/z:/x", "models/Z:", "u2net", "Z"])
def test_other_places_are_taken(place: str):
    refuse_mapped([place], DRIVES.get)


def test_shares_are_found_by_their_unc_names():
    assert first_share(["C:\\x", "//nas/studio"]) == "//nas/studio"
    assert first_share(["\\\\?\\UNC\\nas\\studio"]) is not None
    assert first_share(["C:\\x", "\\\\?\\C:\\x", "\\\\.\\pipe", "/x", "u2net"]) is None


def test_other_systems_have_no_drives():
    assert mapped_drive("Z:") is None
