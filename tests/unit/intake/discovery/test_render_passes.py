"""Names of render passes, and names that only look a little like them."""

import pytest

from dna_pipeline.intake.discovery.render_passes import pass_of

PASSES = {
    # Blender's File Output, by sockets and by render layers
    "Depth0001.exr": "depth",
    "Normal0001.png": "normals",
    "Mist_0001.exr": "mist",
    "Mist0001.png": "mist",
    "Vector0001.exr": "motion",
    "AO0001.png": "occlusion",
    "UV0001.png": "UV",
    "Z0001.exr": "depth",
    "Shadow0001.exr": "shadows",
    "IndexOB0001.exr": "object numbers",
    "IndexMA0012.exr": "material numbers",
    "Object Index0001.exr": "object numbers",
    "CryptoObject00.exr": "Cryptomatte",
    "CryptoObject000001.exr": "Cryptomatte",
    "CryptoMaterial010001.exr": "Cryptomatte",
    "Denoising Normal0001.exr": "normals",
    "Denoising Depth0001.exr": "depth",
    "DiffCol0001.png": "light",
    "GlossDir_0001.exr": "light",
    # Arnold
    "shot010_N.exr": "normals",
    "shot010.P.1001.exr": "position",
    "shot.Z.0001.exr": "depth",
    "scene_crypto_material.exr": "Cryptomatte",
    "beauty.crypto_object.0001.exr": "Cryptomatte",
    "shot_motionvector.exr": "motion",
    # V-Ray, Redshift, Houdini
    "scene.VRayZDepth.0001.exr": "depth",
    "scene.VRayNormals.png": "normals",
    "shot_world_position.exr": "position",
    "motion_vectors.0001.exr": "motion",
    "chair_object_id.png": "object numbers",
    "karma.depth.0001.exr": "depth",
    # By hand
    "chair.depth.exr": "depth",
    "chair-normal.exr": "normals",
    "chair.z.exr": "depth",
    "chair_cryptomatte.exr": "Cryptomatte",
    "chair.mask.png": "a mask",
    "chair_mist.exr": "mist",
    "chair_depth_v002.png": "depth",
    "chair_depth.v003.0001.exr": "depth",
    "depth.png": "depth",
    "N.exr": "normals",
    "N0001.exr": "normals",
    "P0001.exr": "position",
    "chairDepth.exr": "depth",
    "chair_normal.0001.png": "normals",
    "chair.normal.png": "normals",
    "NORMALS.TIF": "normals",
    "sub/folder.png/Depth0001.exr": "depth",
}

PICTURES = (
    """
cat.png|IMG_0001.jpg|IMG_1234.HEIC|DSC_0042.jpg|0001.png|1.png|v001.exr|cat.v2.png|cat.0001.png
depth of field.jpg|depth-of-field.png|in-depth.jpg|hidden depths.jpg|depth_charge.png|deep sea.png
misty morning.png|forest mist.jpg|forest-mist.jpg|forest_mist.jpg|morning mist 0001.jpg|mistral.png
mist.png|uv lamp.png|uv-lamp.png|SUV.png|red_suv.png|cobalt_uvula.png|luv.png
normal-day.jpg|NormalDay.png|Normandy.jpg|the new normal.jpg|new-normal.jpg|abnormal.png
paranormal.png|normal person.png|subnormal.jpg
venetian mask.png|gold_mask.png|face-mask.jpg|mask.jpg|mask.png|maskenball.png|unmask.png
logo-vector.png|flat_design_vector.png|vector.png
dragon-ball-z.jpg|generation z.png|z.png|pizza_z.png
shadow.jpg|Shadow the cat.png|my shadow.png|shadow_0001.jpg|passport_id.jpg|photo-id.png
lotus position.jpg
lotus-position.png|position.png|environment.png|env.png|albedo.png|chair_albedo.png
beauty.exr|chair.exr|chair_beauty.0001.exr|Image0001.exr|Combined0001.exr|render_diffuse.png
new_normal.png|back_to_normal.png|inDepth.png|cocacola_uv.png|ParaNormal.png|Emmanuel_AO.png
portrait_normal.jpg|sunscreen-uv.tif|chair_normal.png|n0001.exr|P0001.png
wood_roughness.png|ciao.png|miao_cao.jpg|bao-bao.png|MaoAO.jpg|chair_n.png|plan_p.png|N.png
sun mask.0001.png|iPhone12.png|cat.final.png|___.png|cat.matte.png|cat-1a2b3c4d.png
""".replace("\n", "|")
    .strip("|")
    .split("|")
)


@pytest.mark.parametrize(("name", "held"), PASSES.items())
def test_a_render_pass_is_known_by_its_name(name: str, held: str) -> None:
    assert pass_of(name) == held


@pytest.mark.parametrize("name", PICTURES)
def test_an_ordinary_name_is_a_picture(name: str) -> None:
    assert pass_of(name) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("chair_normal.png", "chair"),
        ("chair_normal.png", "chair_depth"),
        ("chair-depth.png", "chair-normal"),
        ("chair_uv.tif", "chair_beauty"),
        ("chairDepth.png", "chair"),
        ("chairDepth.png", "chairNormal"),
        ("sub/shot_01_ao.png", "sub/shot_01"),
    ],
)
def test_a_vague_word_counts_beside_the_picture_or_another_pass(name: str, other: str) -> None:
    assert pass_of(name, {other}.__contains__) is not None
    assert pass_of(name, {"cat", f"x{other}", name.rpartition(".")[0]}.__contains__) is None


@pytest.mark.parametrize("part", ["1", "_1", "_v1", "aB", "Depth", "z.", "#"])
def test_no_name_takes_long(part: str) -> None:
    """A regular expression that tries all ways to cut such a name would not end within a year."""
    assert pass_of(part * (240 // len(part)) + "x.exr") is None
