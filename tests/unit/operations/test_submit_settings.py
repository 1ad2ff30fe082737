"""Settings of `submit` that cannot hold for one job are refused, not passed over."""

from __future__ import annotations

import pytest

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.batch import BATCH_KEYS
from dna_pipeline.operations.submit import document_from_options


@pytest.mark.parametrize(
    "setting",
    [
        "matrix.img2img.strength=[0.4,0.6]",
        "matrix={img2img.seed: [1, 2]}",
        "images=*.png",
        "images=[a.png, b.png]",
        " image =foo.png",
        "max_failures=0",
        "on_duplicate=skip",
    ],
)
def test_a_key_of_job_files_is_refused(setting: str):
    with pytest.raises(ConfigError, match="is for a job file") as caught:
        document_from_options(None, ["img2img.steps=4", setting])
    assert str(caught.value).startswith(f"--set {setting!r}: ")


@pytest.mark.parametrize("key", sorted(BATCH_KEYS))
def test_each_of_these_keys_is_refused(key: str):
    with pytest.raises(ConfigError, match=f"{key} is for a job file"):
        document_from_options(None, [f"{key}=1"])


def test_what_one_job_can_have_is_still_taken():
    document = document_from_options("mesh", ["priority=3", "seed=7", "meta.image=x", "tags=[a]"])
    assert document.value == {
        "pipeline": "mesh", "priority": 3, "seed": 7, "meta": {"image": "x"}, "tags": ["a"],
    }  # fmt: skip
