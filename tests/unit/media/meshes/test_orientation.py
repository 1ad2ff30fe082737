"""Axes and colour of glTF."""

import numpy as np

from dna_pipeline.media.meshes.camera import Camera
from dna_pipeline.media.meshes.orientation import linear_to_srgb, srgb_to_linear, to_gltf


def test_a_proper_rotation() -> None:
    turned = to_gltf(np.eye(3, dtype=np.float32))
    np.testing.assert_array_equal(turned @ turned.T, np.eye(3))
    assert np.linalg.det(turned) == 1


def test_the_input_view_faces_front() -> None:
    """Right, up and towards the viewer become glTF's +x, +y and +z."""
    np.testing.assert_allclose(to_gltf(Camera().axes().numpy()), np.eye(3), atol=1e-7)


def test_linear_light() -> None:
    srgb = np.array([0.0, 0.04045, 0.5, 188 / 255, 1.0])
    linear = np.array([0.0, 0.0031308, 0.2140411, 0.5028865, 1.0])
    np.testing.assert_allclose(srgb_to_linear(srgb), linear, rtol=1e-4)
    np.testing.assert_allclose(linear_to_srgb(linear), srgb, rtol=1e-4)


def test_out_of_range_is_clipped() -> None:
    np.testing.assert_array_equal(srgb_to_linear(np.array([-1.0, 2.0])), [0, 1])
    np.testing.assert_array_equal(linear_to_srgb(np.array([-1.0, 2.0])), [0, 1])


def test_there_and_back_for_every_eight_bit_value() -> None:
    values = np.arange(256) / 255
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(values)), values, atol=1e-6)
