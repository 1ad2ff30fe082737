"""Half precision: where it is used, where not, and what it costs."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dna_pipeline.providers import hardware
from dna_pipeline.providers.triposr import attention, weights
from dna_pipeline.providers.triposr.attention import attend
from dna_pipeline.providers.triposr.network import TSR


@pytest.fixture(scope="module")
def half(tiny_folder: Path) -> TSR:
    return weights.load(tiny_folder, dtype=torch.bfloat16)


def error(found: Tensor, expected: Tensor) -> float:
    return ((found.float() - expected).norm() / expected.norm()).item()


@torch.inference_mode()
def test_scene_codes_in_bfloat16(half: TSR, tiny: TSR, conditioned: Tensor) -> None:
    """1.2 % with the sums from block to block in bfloat16 too."""
    codes = half(conditioned)
    assert codes.dtype == torch.float32
    assert 1e-4 < error(codes, tiny(conditioned)) < 0.9e-2


@torch.inference_mode()
def test_a_batch_in_bfloat16_is_the_same_as_one_at_a_time(half: TSR, conditioned: Tensor) -> None:
    pictures = torch.cat([conditioned, conditioned.flip(2), conditioned.flip(1)])
    together = half(pictures)
    for picture, codes in zip(pictures, together, strict=True):
        assert error(codes, half(picture[None])[0]) < 2e-3


def test_only_the_blocks_products_are_in_half_precision(half: TSR) -> None:
    assert half.dtype == torch.bfloat16
    for name, module in half.named_modules():
        in_block = "transformer_blocks" in name or "encoder.layer" in name
        is_product = isinstance(module, nn.Linear) and in_block
        expected = torch.bfloat16 if is_product else torch.float32
        for parameter in module.parameters(recurse=False):
            assert parameter.dtype == expected, name


@torch.inference_mode()
def test_what_runs_from_block_to_block_is_float32(half: TSR, conditioned: Tensor) -> None:
    seen: list[torch.dtype] = []

    def note(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.extend([inputs[0].dtype, output.dtype])

    layers = [*half.image_tokenizer.model.encoder.layer, *half.backbone.transformer_blocks]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    half(conditioned)
    for hook in hooks:
        hook.remove()
    assert seen == [torch.float32] * 2 * len(layers)


# --- attention -----------------------------------------------------------------------------------


def heads(keys: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Queries, keys and values as the layers give them: heads are not contiguous."""
    generator = torch.Generator().manual_seed(keys)
    tokens = [torch.randn(2, n, 3 * 16, generator=generator) for n in (1100, keys, keys)]
    return [x.to(dtype).unflatten(2, (3, 16)).transpose(1, 2) for x in tokens]


@pytest.fixture
def plain_bfloat16(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A CPU without AMX; counts the calls of torch's fused attention."""
    calls: list[int] = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def spy(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        calls.append(len(q))
        return fused(q, k, v)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    monkeypatch.setattr(attention, "has_amx", lambda: False)
    return calls


@pytest.mark.parametrize("keys", [1100, 77])
def test_attention_by_products(plain_bfloat16: list[int], keys: int) -> None:
    exact = attend(*heads(keys))
    assert plain_bfloat16 == [2]  # float32 is left to torch
    found = attend(*heads(keys, torch.bfloat16))
    assert plain_bfloat16 == [2]
    assert found.shape == exact.shape
    assert found.dtype == torch.bfloat16
    assert error(found, exact) < 1e-2


def test_a_cpu_with_amx_has_torchs_attention(
    plain_bfloat16: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "has_amx", lambda: True)
    attend(*heads(77, torch.bfloat16))
    assert plain_bfloat16 == [2]


# --- hardware ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": False, "avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": False, "avx512_bf16": False, "avx512_f": True}, torch.float32),
        ({"neon": True}, torch.float32),
    ],
)
def test_a_cpu_computes_in_bfloat16_if_it_has_it(
    features: dict[str, bool], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    monkeypatch.setattr(hardware, "_features", hardware._features.__wrapped__)
    assert hardware.fast_dtype("cpu") == expected
    assert hardware.fast_dtype("mps") == torch.float32


def test_a_gpu_computes_in_bfloat16_unless_it_only_imitates_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of two GPUs the second one has it."""
    current = [0]

    @contextmanager
    def device(chosen: torch.device) -> Generator[None]:
        current.append(torch.device(chosen).index)
        yield
        current.pop()

    def supported(including_emulation: bool = True) -> bool:
        return current[-1] == 1 or including_emulation

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert hardware.fast_dtype("cuda:0") == torch.float16
    assert hardware.fast_dtype(torch.device("cuda:1")) == torch.bfloat16
