"""The section `serve`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dna_pipeline.base.errors import ConfigError
from dna_pipeline.config.file_parts import ServeSpec
from dna_pipeline.config.schema import Config

FILE = """\
version: 1
models:
  sd: {provider: diffusers, path: sd}
  key: {provider: rembg}
  tri: {provider: triposr, path: t}
pipelines:
  cut: [{remove_background: {model: key}}]
  restyle: [{img2img: {model: sd}}]
  mesh: [{remove_background: {model: key}}, {triposr: {model: tri}}]
inboxes: [{path: in, pipeline: cut}]
"""

Read = Callable[[str], Config]


def test_nothing_has_to_be_said(read: Read):
    assert read(FILE).serve == ServeSpec()
    assert read(f"{FILE}serve:\n").serve == ServeSpec()
    assert read(f"{FILE}serve: {{}}\n").serve == ServeSpec()


def test_files_lie_beside_pipeline_yaml(read: Read, tmp_path: Path):
    spec = read(f"{FILE}serve: {{certificate: keys/../a.pem, key: /keys/a.key}}\n").serve
    assert (spec.certificate, spec.key) == (tmp_path / "a.pem", Path("/keys/a.key").absolute())
    assert read(f"{FILE}serve: {{certificate: both.pem}}\n").serve.key is None


def test_a_network_may_be_one_address(read: Read):
    spec = read(f"{FILE}serve: {{networks: [10.0.0.7, 'fd00::/8'], proxies: ['::1']}}\n").serve
    assert spec.networks == ["10.0.0.7/32", "fd00::/8"]
    assert spec.proxies == ["::1/128"]


def test_requests_may_mean_any_pipeline_with_their_stage(read: Read):
    spec = read(f"{FILE}serve: {{img2img: restyle, triposr: mesh}}\n").serve
    assert (spec.img2img, spec.triposr) == ("restyle", "mesh")


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ("{networks: [192.168.1.7/24]}", r"serve.networks\[0\]: .*192.168.1.0/24.*host bits set"),
        ("{networks: [studio]}", r"serve.networks\[0\]: should be a network"),
        ("{networks: 10.0.0.0/8}", "serve.networks: should be a list"),
        ("{proxies: [nginx]}", r"serve.proxies\[0\]: should be a network"),
        ("{img2img: nowhere}", "serve.img2img: there is no pipeline 'nowhere'; there are: cut, re"),
        ("{img2img: cut}", "serve.img2img: the pipeline 'cut' has no stage img2img"),
        ("{triposr: restyle}", "serve.triposr: the pipeline 'restyle' has no stage triposr"),
        ("{key: a.key}", "serve.key: a key without a certificate has no use"),
        ("{certificate: ''}", "serve.certificate: "),
        ("{max_upload_mib: 0}", "serve.max_upload_mib: should be from 1 to 4096"),
        ("{priority: high}", "serve.priority: should be"),
        ("{hosts: ['']}", r"serve.hosts\[0\]: "),
        ("{host: a.example}", "unknown key 'serve.host'; did you mean 'hosts'"),
        ("{token: secret}", "unknown key 'serve.token'"),
        ("on", "serve: should be a mapping"),
        ("[a]", "serve: should be a mapping"),
    ],
)
def test_a_wrong_section(read: Read, section: str, complaint: str):
    with pytest.raises(ConfigError, match=complaint) as caught:
        read(f"{FILE}serve: {section}\n")
    assert "line 11" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("networks: [10.0.0.0/8]", "it belongs below `serve`"),
        ("max_upload_mib: 5", "it belongs below `serve`"),
        ("priority: 5", "it belongs to an entry of `inboxes`"),
        ("img2img: {}", "it belongs into a sidecar"),
    ],
)
def test_a_key_in_the_wrong_place_is_led_to_the_right_one(read: Read, line: str, advice: str):
    with pytest.raises(ConfigError, match=advice):
        read(f"{FILE}{line}\n")


def test_a_broken_pipeline_is_not_named_twice(read: Read):
    with pytest.raises(ConfigError) as caught:
        read(
            FILE.replace("img2img: {model: sd}", "img2img: {modl: sd}")
            + "serve: {img2img: restyle}"
        )
    assert len(str(caught.value).splitlines()) == 1
