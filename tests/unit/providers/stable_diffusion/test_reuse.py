"""Parts of a loaded model that one job leaves for the next: modules, embeddings, compiled code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from dna_pipeline.base.errors import CompilerMissing
from dna_pipeline.providers.stable_diffusion import compilation
from dna_pipeline.providers.stable_diffusion.provider import StableDiffusion
from tests.unit.providers.stable_diffusion.conftest import CPU, REQUEST, ignore, provider

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
]


def test_no_module_is_moved_or_made_for_a_job(
    model: StableDiffusion, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
):
    calls: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        method = getattr(nn.Module, name)

        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if not isinstance(module, nn.ModuleList):  # made whenever blocks are sliced
                calls.append(f"{name} of {type(module).__name__}")
            return method(module, *args, **kwargs)

        return call

    for name in ("__init__", "to", "_apply", "load_state_dict"):
        monkeypatch.setattr(nn.Module, name, counted(name))
    for sampler in ("euler", "dpmpp_2m"):
        model.redraw(picture, replace(REQUEST, sampler=sampler), ignore)
    assert calls == []
    nn.Linear(1, 1).to("cpu")
    assert calls[0] == "__init__ of Linear"


# ---------------------------------------------------------------- embeddings


def test_a_prompt_is_encoded_once(model: StableDiffusion, picture: Image.Image):
    encoded: list[str] = []
    tokenizer, encoder = model._pipeline.tokenizer, model._pipeline.text_encoder
    hook = encoder.register_forward_pre_hook(
        lambda _module, inputs: encoded.append(
            tokenizer.decode(inputs[0][0], skip_special_tokens=True).strip()
        )
    )
    request = replace(REQUEST, prompt="a prompt of its own", negative_prompt="another one")
    try:
        for changes in ({}, {"seed": 8}, {"sampler": "ddim"}, {"prompt": "a third one"}):
            model.redraw(picture, replace(request, **changes), ignore)
    finally:
        hook.remove()
    assert encoded == ["a prompt of its own", "another one", "a third one"]


# ---------------------------------------------------------------- compilation


def test_the_unet_is_compiled_where_that_was_asked_for(
    folder: Path, model: StableDiffusion, picture: Image.Image, monkeypatch: pytest.MonkeyPatch
):
    """The compiler itself takes minutes: `scripts/bench.py img2img --compile` runs it."""
    calls: list[str] = []

    def compiled(forward: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        owner = type(getattr(forward, "__self__", None)).__name__

        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(owner)
            return forward(*args, **kwargs)

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(compilation, "lack", lambda kind: None)
    eager = provider(folder).load(CPU).redraw(picture, REQUEST, ignore)
    assert calls == []
    found = provider(folder, compile=True).load(CPU).redraw(picture, REQUEST, ignore)
    assert calls == ["UNet2DConditionModel"] * 3
    assert found.tobytes() == eager.tobytes()


def test_a_machine_without_a_compiler(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(CompilerMissing, match=r"no C\+\+ compiler was found \(g\+\+, "):
        provider(folder, compile=True).load(CPU)
    provider(folder).load(CPU)


def test_the_compiler_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    compiler = tmp_path / "my-compiler"
    compiler.touch(mode=0o755)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", str(compiler))
    assert compilation.lack("cpu") is None
    monkeypatch.setenv("CXX", str(tmp_path / "other"))
    assert "other" in (compilation.lack("cpu") or "")


def test_what_compiles_has_more_time(folder: Path):
    assert provider(folder).preparation_s == 0
    assert provider(folder, compile=True).preparation_s >= 1800
