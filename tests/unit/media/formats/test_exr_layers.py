"""Which layer of an OpenEXR file is the picture: red in these files, everything else is green."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dna_pipeline.base.errors import ImageUnreadable
from dna_pipeline.media.images import load_image, probe
from tests.exr_files import RED, Planes, green, numbers, red, write_exr, write_parts


def others(*layers: str) -> dict[str, Any]:
    return {name: value for layer in layers for name, value in green(layer).items()}


def is_red(path: Path) -> bool:
    """True if the picture is the red layer."""
    colour: Any = load_image(path).getpixel((7, 7))
    assert colour[:3] in (RED, (0, 255, 0))
    return colour[:3] == RED


def remarks_of(path: Path) -> list[str]:
    remarks: list[str] = []
    load_image(path, remarks)
    return remarks


def refusal(path: Path) -> ImageUnreadable:
    with pytest.raises(ImageUnreadable) as caught:
        probe(path)
    return caught.value


BLENDER_PASSES = others(
    *("Depth", "Normal", "Mist", "AO", "Shadow", "Emit", "Env", "DiffDir", "DiffInd", "DiffCol"),
    *("GlossDir", "GlossInd", "GlossCol", "TransDir", "TransCol", "SubsurfaceCol", "VolumeDir"),
    *("IndexOB", "IndexMA", "UV", "Vector", "Position", "CryptoObject00", "Denoising Albedo"),
    *("Denoising Normal", "Denoising Depth"),
)

WRITTEN_AS: dict[str, Planes] = {
    "Blender, File Output": {**red("Image"), **BLENDER_PASSES},
    "Blender, File Output in stereo": {**red("Image.left"), **others("Image.right", "AO.left")},
    "Blender, with Cycles' noise": {**red("Image"), **others("Noisy Image", "Denoising Albedo")},
    "Blender, Image and Denoised": {**red("Image"), **others("Denoised", "Depth")},
    "Blender, Denoised Image alone": {**red("Denoised Image"), **BLENDER_PASSES},
    "Blender, Denoised and noisy": {**red("Denoised"), **others("Noisy Image", "Normal")},
    "Blender, Noisy Image alone": {**red("Noisy Image"), **BLENDER_PASSES},
    "Blender, a name of its own": {**red("My render"), **BLENDER_PASSES},
    "Cycles": {**red("Combined"), **others("DiffCol", "Denoising Normal")},
    "FinalImage": {**red("FinalImage"), **others("Depth", "Other")},
    "Final Image": {**red("Final Image"), **others("Shadow", "Other")},
    "final_image": {**red("final_image"), **others("ao", "Other")},
    "IMAGE": {**red("IMAGE"), **others("Other", "another")},
    "Unreal": {
        **red(),
        **others("FinalImageMovieRenderQueue_WorldDepth", "ActorHitProxyMask00"),
    },
    "Unreal, FinalImage": {
        **red("FinalImage"),
        **others("FinalImageMovieRenderQueue_MotionVectors", "ActorHitProxyMask00", "Unlit"),
    },
    "Arnold": {
        **red("RGBA"),
        **others("RGBA_denoise", "RGBA_key", "diffuse", "N", "crypto_object"),
    },
    "V-Ray": {**red("RGB color"), **others("reflect", "rawLight", "bump_normals", "other")},
    "V-Ray, denoised": {**red("effectsResult"), **others("RGB_color", "VRayDenoiser", "diffuse")},
    "V-Ray, denoiser alone": {**red("VRayDenoiser"), **others("GI", "lighting", "lightSelectKey")},
    "Redshift": {**red("Beauty"), **others("Reflections", "DiffuseFilter", "BumpNormals", "Key")},
    "Octane": {**red("Beauty"), **others("Denoised beauty", "Diffuse direct", "Material ID")},
    "Octane, denoised": {**red("Denoised beauty"), **others("Reflection", "Render layer ID", "x")},
    "Corona": {**red("Beauty"), **others("CESSENTIAL_Albedo", "Direct", "Caustics")},
    "Karma": {**red("C"), **others("directdiffuse", "albedo", "N", "P")},
    "RenderMan": {**red("Ci"), **others("directDiffuse", "Nn", "lpe")},
    "Mantra": {**red("C"), **others("direct_emission", "Pz", "comp")},
    "Nuke": {**red("rgba"), **others("key", "depth", "mask")},
    "Natron": {**red("Color"), **others("Other", "Normal")},
    "LuxCore": {**red("RGB_IMAGEPIPELINE"), **others("ALBEDO", "AVG_SHADING_NORMAL", "RADIANCE")},
    "Modo": {**red("Final Color Output"), **others("Reflection Shading", "Surface ID", "x")},
    "composition is no position": {**red("Composition"), **others("Position", "worldPosition")},
    "one unknown name among contributions": {**red("hero"), **others("diffuse", "specular", "ao")},
    "one contribution among numbers": {
        **red("diffuse"),
        **others("N", "uv", "Material ID", "mask"),
    },
    "a name made from beauty": {**red("hero_beauty"), **others("hero_diffuse", "hero_key")},
    "a beauty that is numbered": {**red("Beauty 2"), **others("key", "fill")},
    "an albedo alone": red("albedo"),
    "a clay render alone": red("AO"),
}


@pytest.mark.parametrize("planes", WRITTEN_AS.values(), ids=WRITTEN_AS.keys())
def test_the_beauty_layer_is_the_picture(tmp_path: Path, planes: Planes) -> None:
    assert is_red(write_exr(tmp_path / "a.exr", planes))


RANKED = ["", "Combined", "Beauty", "RGBA", "Image", "C", "Main", "RGB_color", "Final"]
RANKED += ["Denoised Image", "Noisy Image", "hero", "diffuse"]


@pytest.mark.parametrize("place", range(len(RANKED) - 1))
def test_the_surest_name_wins_over_all_that_follow(tmp_path: Path, place: int) -> None:
    planes = {**others(*RANKED[place + 1 :]), **red(RANKED[place])}
    assert is_red(write_exr(tmp_path / "a.exr", planes))


NUMBERS = ["Mist", "UV", "uvw", "IndexOB", "IndexMA", "ObjectID", "object_id", "Material ID"]
NUMBERS += ["MaterialID", "VRayRenderID", "VRayMtlID", "Render layer ID", "instanceId", "id"]
NUMBERS += ["CryptoMaterial00", "uCryptoAsset", "ActorHitProxyMask01", "PuzzleMatte1", "MultiMatte"]
NUMBERS += ["mask", "Matte", "Depth", "ZDepth", "Z", "N", "P", "Pref", "World Normal", "Vector"]
NUMBERS += ["MotionVectors", "velocity", "Tangent", "WorldPosition", "Denoising Normal", "alpha"]
NUMBERS += ["ViewLayer.CryptoObject01", "Normal.left", "variance", "VRaySampleRate", "texcoord"]


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_never_the_picture(tmp_path: Path, name: str) -> None:
    error = refusal(write_exr(tmp_path / "a.exr", others(name)))
    assert "no layer is a picture" in error.detail
    assert f"{name} ({name}.B, {name}.G, {name}.R)" in error.detail
    assert "beauty" in error.hint
    assert is_red(write_exr(tmp_path / "b.exr", {**others(name), **red("hero")}))


UNKNOWN = ["hero", "Grid", "pyramid", "solid", "Maskarade", "Composition", "Diffusion", "Mistral"]


@pytest.mark.parametrize("name", [*UNKNOWN, "uvula", "Depp", "Zoo", "Nina", "wireframe"])
def test_a_single_layer_of_any_other_name_is(tmp_path: Path, name: str) -> None:
    assert is_red(write_exr(tmp_path / "a.exr", {**red(name), **numbers("Depth.Z", "N.X")}))


@pytest.mark.parametrize("name", ["hero", "ViewLayer.hero", "Hero07"])
def test_what_the_header_calls_cryptomatte_is_not(tmp_path: Path, name: str) -> None:
    header = {"cryptomatte/1a2b3c4/name": name, "cryptomatte/1a2b3c4/hash": "MurmurHash3_32"}
    planes = {**others(f"{name}00", f"{name}01", name), **red("villain")}
    assert is_red(write_exr(tmp_path / "a.exr", planes, header))


@pytest.mark.parametrize(
    "names",
    [("one", "two"), ("diffuse", "specular"), ("a.left", "b.right"), ("a_beauty", "b_beauty")],
)
def test_unclear_which(tmp_path: Path, names: tuple[str, str]) -> None:
    error = refusal(write_exr(tmp_path / "a.exr", {**others(*names), **numbers("Z")}))
    assert "several layers could be the picture" in error.detail
    for name in names:
        assert f"{name} (" in error.detail
    assert "Beauty" in error.hint
    assert "file of its own" in error.hint


def test_a_denoised_or_noisy_twin_is_remarked(tmp_path: Path) -> None:
    planes = {**red("Image"), **others("Denoised Image", "Depth")}
    first, second = remarks_of(write_exr(tmp_path / "a.exr", planes))
    assert '"Image" (of 3)' in first
    assert second == (
        'The EXR also has layer "Denoised Image"; write the one you want into a file of its own.'
    )
    assert len(remarks_of(write_exr(tmp_path / "b.exr", {**red("Image"), **BLENDER_PASSES}))) == 1


# View layers


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("ViewLayer.Combined", ["A.Combined", "RenderLayer.Combined", "Z.Combined"]),
        ("View Layer.Combined", ["A.Combined", "Foreground.Combined"]),
        ("RenderLayer.Combined", ["A.Combined", "Sky.Combined"]),
        ("Composite.Combined", ["A.Combined", "ViewLayer.Combined"]),
        ("Background.Combined", ["Foreground.Combined", "ViewLayer.Depth", "ViewLayer.AO"]),
        ("A.b.Combined", ["ViewLayer.001.Combined"]),
    ],
)
def test_the_usual_view_layer_before_others(tmp_path: Path, name: str, rest: list[str]) -> None:
    planes = {**others(*rest), **red(name)}
    assert is_red(write_exr(tmp_path / "a.exr", planes))


def test_other_view_layers_are_remarked(tmp_path: Path) -> None:
    planes = {**others("Sky.Combined", "Trees.Combined", "Sky.DiffDir"), **red("Hills.Combined")}
    first, second = remarks_of(write_exr(tmp_path / "a.exr", planes))
    assert '"Hills.Combined"' in first
    assert second == (
        'The EXR also has layer "Sky.Combined" and layer "Trees.Combined"; '
        "write the one you want into a file of its own."
    )


def test_the_compositor_s_picture_needs_no_remark(tmp_path: Path) -> None:
    planes = {**others("ViewLayer.Combined"), **red("Composite.Combined")}
    assert len(remarks_of(write_exr(tmp_path / "a.exr", planes))) == 1


def test_many_view_layers_make_no_endless_remark(tmp_path: Path) -> None:
    planes = others(*(f"layer\n{number}{'x' * 150}.Combined" for number in range(40)))
    second = remarks_of(write_exr(tmp_path / "a.exr", planes))[1]
    assert "\n" not in second
    assert len(second) < 2000


# Stereo

STEREO: dict[str, tuple[Planes, list[str]]] = {
    "by name": ({**red("left"), **green("right")}, []),
    "the right one unnamed": ({**red("left"), **green()}, ["right", "left"]),
    "the left one unnamed": ({**red(), **green("right")}, ["left", "right"]),
    "the left one unnamed, unlisted": ({**red(), **green("right")}, []),
    "the right one unnamed, unlisted": ({**red("left"), **green()}, []),
    "letters": ({**red("L"), **green("R")}, []),
    "small letters": ({**red("l"), **green("r")}, []),
    "listed letters": ({**red("L"), **green()}, ["R", "L"]),
    "the right one first": ({**red("shot.left"), **green("shot.right")}, ["right", "left"]),
    "Blender": ({**red("ViewLayer.Combined.left"), **green("ViewLayer.Combined.right")}, []),
    "the eye before the layer": ({**red("left.beauty"), **green("right.beauty")}, []),
    "the eye at the end": (
        {"R.left": 0.5, "G.left": 0.0, "B.left": 0.0, "R.right": 0, "G.right": 1, "B.right": 0},
        [],
    ),
    "joined to the layer": ({**red("beauty_left"), **green("beauty_right")}, []),
    "a letter joined to the layer": ({**red("rgba_L"), **green("rgba_R")}, []),
    "beside other passes": (
        {**red("Image.left"), **others("Image.right", "AO.left", "AO.right", "Normal.left")},
        [],
    ),
    "a name that says nothing": ({**red("hero.left"), **green("hero.right")}, []),
}


@pytest.mark.parametrize(("planes", "views"), STEREO.values(), ids=STEREO.keys())
def test_the_left_eye_is_the_picture(tmp_path: Path, planes: Planes, views: list[str]) -> None:
    path = write_exr(tmp_path / "a.exr", planes, {"multiView": views} if views else None)
    assert is_red(path)
    assert len(remarks_of(path)) == 2
    assert "left eye" in remarks_of(path)[1]
    assert "right one" in remarks_of(path)[1]


def test_a_third_view_that_is_unnamed_is_the_file_s_own_choice(tmp_path: Path) -> None:
    planes = {**red(), **green("left"), **green("right")}
    path = write_exr(tmp_path / "a.exr", planes, {"multiView": ["mono", "right", "left"]})
    assert is_red(path)
    assert 'also has layer "left" and layer "right"' in remarks_of(path)[1]


def test_other_views_come_in_the_order_of_the_header(tmp_path: Path) -> None:
    planes = {**green("beauty.a"), **red("beauty.b"), **green("beauty.c")}
    path = write_exr(tmp_path / "a.exr", planes, {"multiView": ["b", "a", "c"]})
    assert is_red(path)
    assert 'also has layer "beauty.a" and layer "beauty.c"' in remarks_of(path)[1]


@pytest.mark.parametrize(
    ("planes", "views"),
    [
        (red("right"), []),
        (red(), ["right"]),
        ({**red("ViewLayer.Combined.right"), **others("ViewLayer.AO.right")}, []),
        ({**red("beauty_right"), **others("N")}, []),
    ],
)
def test_a_right_eye_alone_is_the_picture(tmp_path: Path, planes: Planes, views: list[str]) -> None:
    path = write_exr(tmp_path / "a.exr", planes, {"multiView": views} if views else None)
    assert is_red(path)
    assert "only the right eye" in remarks_of(path)[1]


@pytest.mark.parametrize("names", [("key_left", "key_right"), ("key.L", "fill.R"), ("L", "fill")])
def test_lights_from_the_left_are_no_eyes(tmp_path: Path, names: tuple[str, str]) -> None:
    assert "several layers" in refusal(write_exr(tmp_path / "a.exr", others(*names))).detail


@pytest.mark.parametrize("views", [["left"], ["main"], []])
def test_one_eye_alone_needs_no_remark(tmp_path: Path, views: list[str]) -> None:
    path = write_exr(tmp_path / "a.exr", red(), {"multiView": views} if views else None)
    assert len(remarks_of(path)) == 1


# Several parts


@pytest.mark.parametrize(
    "parts",
    [
        [("depth", numbers("Z")), ("beauty", red())],
        [("normals", green()), ("beauty", red()), ("hero", green())],
        [("crypto_object", green()), ("hero", red())],
        [("N", green()), ("RGBA", red()), ("diffuse", green())],
        [("ViewLayer.Depth", numbers("Z")), ("ViewLayer.Combined", red())],
        [("ViewLayer.AO", green("AO")), ("ViewLayer.Combined", red("Combined"))],
        [("Sky.Combined", green()), ("ViewLayer.Combined", red())],
        [("diffuse", green()), ("hero", red())],
        [("hero", red()), ("villain", green())],
        [("diffuse", red()), ("specular", green())],
        [("mist", green()), ("final_image", red()), ("other", green())],
    ],
)
def test_a_part_is_a_layer(tmp_path: Path, parts: list[tuple[str, Planes]]) -> None:
    made = [({"name": name}, planes) for name, planes in parts]
    assert is_red(write_parts(tmp_path / "a.exr", *made))


def test_other_parts_of_unknown_names_are_remarked(tmp_path: Path) -> None:
    parts = [("hero", red()), ("villain", green()), ("diffuse", green()), ("depth", numbers("Z"))]
    path = write_parts(tmp_path / "a.exr", *(({"name": name}, planes) for name, planes in parts))
    first, second = remarks_of(path)
    assert '"hero" (of 4)' in first
    assert second == (
        'The EXR also has layer "villain"; write the one you want into a file of its own.'
    )


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"name": "rgba_left", "view": "left"}, {"name": "rgba_right", "view": "right"}),
        ({"name": "b", "view": "left"}, {"name": "a", "view": "right"}),
        ({"name": "left"}, {"name": "right"}),
        ({"name": "beauty.left"}, {"name": "beauty.right"}),
        ({"name": "rgba.L", "view": "L"}, {"name": "rgba.R", "view": "R"}),
    ],
)
def test_eyes_in_parts(tmp_path: Path, left: dict[str, Any], right: dict[str, Any]) -> None:
    for number, parts in enumerate(
        [[(left, red()), (right, green())], [(right, green()), (left, red())]]
    ):
        path = write_parts(tmp_path / f"{number}.exr", *parts)
        assert is_red(path)


def test_a_right_part_alone(tmp_path: Path) -> None:
    path = write_parts(
        tmp_path / "a.exr",
        ({"name": "depth", "view": "right"}, numbers("Z")),
        ({"name": "rgba", "view": "right"}, red()),
    )
    assert is_red(path)
    assert "only the right eye" in remarks_of(path)[1]


def test_the_remarks_name_what_was_taken_and_left(tmp_path: Path) -> None:
    path = write_parts(
        tmp_path / "a.exr",
        ({"name": "rgba_right", "view": "right"}, green()),
        ({"name": "rgba_left", "view": "left"}, red()),
    )
    first, second = remarks_of(path)
    assert '"rgba_left" (of 2)' in first
    assert second == (
        'The EXR is in stereo: its left eye was taken. For the right one write layer "rgba_right" '
        "into a file of its own."
    )


@pytest.mark.parametrize("layer", ["", "beauty", "Image"])
def test_whole_numbers_are_refused_by_the_layer_s_name(tmp_path: Path, layer: str) -> None:
    planes = dict.fromkeys(red(layer), 7)
    error = refusal(write_exr(tmp_path / "a.exr", planes, kind="u4"))
    assert (
        f'layer "{layer}"' in error.detail if layer else "the layer without a name" in error.detail
    )
    assert "whole numbers" in error.detail
    assert "half or float" in error.hint
