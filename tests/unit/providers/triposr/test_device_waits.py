"""How often the CPU waits for the device between a picture and its surface.

Counted on a CPU, where nothing waits: see `tests/device_waits.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from dna_pipeline.providers.triposr import surface
from dna_pipeline.providers.triposr.copies import to_device
from dna_pipeline.providers.triposr.field import Field
from dna_pipeline.providers.triposr.network import TSR
from dna_pipeline.providers.triposr.provider import TripoSRNetwork
from tests.device_waits import DeviceWaits

pytestmark = pytest.mark.usefixtures("one_thread")


def test_what_counts() -> None:
    x = torch.arange(6.0)
    with torch.inference_mode(), DeviceWaits() as waits:
        float(x.sum()), bool(x.all()), x.sum().item(), x.tolist(), x.cpu(), x.nonzero()
        x[x > 2], x.masked_select(x > 2), x.new_tensor([1.0]), torch.unique(x), torch.nonzero(x)
        x[x > 2] = 0
        torch.tensor([1.0], device=x.device)
    assert waits.total == 13
    with DeviceWaits() as waits:
        x[torch.tensor([1, 2])] = x[:2] + x.sum()
    assert waits.total == 0


def test_nothing_waits_from_the_picture_to_the_scene(tiny: TSR, tiny_folder: Path) -> None:
    network = TripoSRNetwork(tiny)
    with Image.open(tiny_folder / "input.png") as image:
        network.field(image, foreground_ratio=0.85)  # constants go to the device once
        with DeviceWaits() as waits:
            network.field(image, foreground_ratio=0.85)
    assert waits.counts == {}


@pytest.mark.parametrize(("resolution", "most"), [(128, 36), (256, 42)])
def test_the_search_waits_a_few_times_a_lattice(robot: Field, resolution: int, most: int) -> None:
    """For the sizes of what goes on. At 256 there is a lattice more, and four times the cells."""
    with DeviceWaits() as waits:
        surface.extract(robot, resolution, chunk_size=1 << 20)
    assert 0 < waits.total <= most


def test_more_chunks_do_not_wait_more_often_in_the_search(robot: Field) -> None:
    """But for the colours, which are read at the end."""
    totals: list[int] = []
    for chunk in (1 << 14, 1 << 20):
        with DeviceWaits() as waits:
            surface.extract(robot, 128, chunk_size=chunk)
        totals.append(waits.total - waits.counts["cpu"])
    assert totals[0] == totals[1]


def test_copies_of_a_cpu_are_none() -> None:
    x = torch.arange(3.0)
    assert to_device(x, torch.device("cpu")) is x
