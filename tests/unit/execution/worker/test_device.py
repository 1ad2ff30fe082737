"""What a worker says of its device."""

from __future__ import annotations

import pytest

from dna_pipeline.base.errors import DeviceUnavailable
from dna_pipeline.execution.worker.device import make_current, memory_use
from dna_pipeline.providers.base import Device


def test_on_a_cpu_the_memory_is_that_of_the_process_and_of_the_machine():
    use = memory_use(Device("cpu", "float32"))
    assert use is not None
    assert 1 << 20 < use.used < use.total


def test_on_a_gpu_the_memory_is_the_device_s(monkeypatch: pytest.MonkeyPatch):
    import torch

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda name: (30, 100))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda name: "H")
    use = memory_use(Device("cuda:0", "float16"))
    assert use is not None
    assert (use.used, use.total) == (70, 100)


def test_a_driver_that_does_not_say_is_no_fault(monkeypatch: pytest.MonkeyPatch):
    import torch

    def refuse(name: str) -> None:
        raise RuntimeError("not supported")

    monkeypatch.setattr(torch.cuda, "mem_get_info", refuse)
    assert memory_use(Device("cuda:0", "float16")) is None
    assert memory_use(Device("xpu", "float16")) is None


@pytest.mark.parametrize(
    ("name", "numbers"), [("cpu", []), ("cuda", []), ("cuda:1", [1]), ("mps", [])]
)
def test_a_numbered_card_becomes_the_current_one(
    name: str, numbers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    make_current(Device(name, "float32"))
    assert chosen == numbers


def test_a_card_that_is_refused_is_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    import torch

    def refuse(number: int) -> None:
        raise RuntimeError("no such card")

    monkeypatch.setattr(torch.cuda, "set_device", refuse)
    with pytest.raises(DeviceUnavailable, match="cuda:1 cannot be used: no such card"):
        make_current(Device("cuda:1", "float16"))
