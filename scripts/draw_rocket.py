"""Draws the picture of the demo: a glazed toy rocket before a plain backdrop.

    rocket.png              512 x 512, sRGB
    rocket.silhouette.png   how much of each pixel the rocket covers

Rays are marched through signed distances. The subject is for small stand-in models: round, in few
colours, with a soft shadow.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from environment import escape_unencodable
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float64]

SIDE_PX, SAMPLES = 512, 3
CAMERA_DISTANCE, FOVY_DEG, ELEVATION_DEG, TARGET_HEIGHT = 5.4, 26.0, 7.0, 0.92
KEY_LIGHT = np.array([0.62, -0.5, 0.78])
FILL_LIGHT = np.array([0.5, 0.85, 0.3])
BACKDROP = np.array([0.56, 0.66, 0.70])  # linear light, as all colours here
SHADOW_DEPTH = 0.2
FAR, HIT = 9.0, 4e-4
SOFTNESS_PX = 1.2
"""Blur of a lens, as a deviation."""

BODY, PAINT, BRASS, GLASS = range(4)
COLOURS = np.array(
    [[0.82, 0.70, 0.52], [0.70, 0.065, 0.035], [0.62, 0.33, 0.07], [0.012, 0.10, 0.24]]
)
GLOSS = np.array([0.8, 0.8, 0.9, 1.0])

FIN = np.array([[0.16, 0.84], [0.44, 0.60], [0.62, 0.30], [0.64, 0.05], [0.5, 0.05], [0.2, 0.34]])
"""Outline of a fin: distance from the axis and height."""
FIN_HALF_THICKNESS, FIN_ROUNDING = 0.022, 0.04
WINDOW_HEIGHT, WINDOW_RADIUS, FRAME_RADIUS = 1.22, 0.15, 0.034


def main() -> None:
    escape_unencodable()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    folder = Path(__file__).parent / "demo_files"
    parser.add_argument("--out", type=Path, default=folder, help="folder (%(default)s)")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    picture, silhouette = draw()
    Image.fromarray(picture).save(out / "rocket.png", optimize=True)
    Image.fromarray(silhouette).save(out / "rocket.silhouette.png", optimize=True)


def draw(side: int = SIDE_PX) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The picture (side, side, 3) and the rocket's silhouette (side, side)."""
    fine = side * SAMPLES
    origin, rays = _rays(fine)
    distance = _march(origin, rays)
    is_rocket = distance < FAR
    light = _backdrop(origin, rays)
    points = origin + rays[is_rocket] * distance[is_rocket, None]
    light[is_rocket] = _shaded(points, rays[is_rocket])
    light = _reduced(light.reshape(fine, fine, 3))
    light = _blurred(light)
    covered = _reduced(is_rocket.reshape(fine, fine, 1).astype(float))[..., 0]
    return _to_bytes(_to_srgb(light)), _to_bytes(covered)


def _rays(side: int) -> tuple[Floats, Floats]:
    """The camera's place, and unit rays (side * side, 3). x is towards it, y right, z up."""
    elevation = np.radians(ELEVATION_DEG)
    backward = np.array([np.cos(elevation), 0.0, np.sin(elevation)])
    up = np.array([-np.sin(elevation), 0.0, np.cos(elevation)])
    right = np.array([0.0, 1.0, 0.0])
    line = ((np.arange(side) + 0.5) / side * 2 - 1) * np.tan(np.radians(FOVY_DEG / 2))
    u, v = np.tile(line, side), np.repeat(-line, side)
    rays = u[:, None] * right + v[:, None] * up - backward
    target = np.array([0.0, 0.0, TARGET_HEIGHT])
    return target + CAMERA_DISTANCE * backward, _unit(rays)


def _parts(points: Floats) -> Floats:
    """Signed distances (4, n) to the body, the painted parts, the brass and the glass.

    Exact ones for fins and rings; those of revolved outlines are shortened where they are steep,
    so that no step goes through a wall.
    """
    x, y, z = points.T
    axial = np.hypot(x, y)
    body = np.maximum((axial - _body_radius(z)) * 0.72, 0.30 - z)
    fins = np.minimum(_fin(np.abs(y), z, x), _fin(x, z, y))
    nozzle = np.maximum(np.abs(z - 0.25) - 0.075, axial - (0.30 - 0.45 * (z - 0.16))) * 0.85
    nozzle = np.maximum(nozzle, 0.20 - axial - (z - 0.17))
    frame, pane = _window(x, y, z)
    return np.stack([body, fins, np.minimum(nozzle, frame), pane])


def _window(x: Floats, y: Floats, z: Floats) -> tuple[Floats, Floats]:
    """Distances to the window's frame and to its pane, which stand on the body's slope."""
    radius_at = _body_radius(np.array([WINDOW_HEIGHT - 0.01, WINDOW_HEIGHT + 0.01]))
    tilt = np.arctan((radius_at[0] - radius_at[1]) / 0.02)
    x, z = x - radius_at.mean() + 0.01, z - WINDOW_HEIGHT
    out, along = x * np.cos(tilt) + z * np.sin(tilt), z * np.cos(tilt) - x * np.sin(tilt)
    ring = np.hypot(y, along)
    frame = np.hypot(ring - WINDOW_RADIUS, out) - FRAME_RADIUS
    pane = np.maximum(np.hypot(out + 0.17, ring) - 0.215, ring - WINDOW_RADIUS)
    return frame, pane


def _body_radius(z: Floats) -> Floats:
    """Radius of the body at heights above the ground; negative above its tip."""
    belly = 0.86
    above = 1 - np.abs(np.maximum(z - belly, 0) / 1.02) ** 2.1
    below = 1 - 0.30 * (np.minimum(z - belly, 0) / 0.56) ** 2
    return 0.43 * np.where(z > belly, above, below)


def _fin(across: Floats, z: Floats, off: Floats) -> Floats:
    """Distance to a plate with the outline FIN, rounded; `off` is the distance from its plane."""
    inner, rest = np.full(across.shape, np.inf), np.ones(across.shape)
    ends = np.roll(FIN, -1, axis=0)
    for (ax, az), (bx, bz) in zip(FIN, ends, strict=True):
        ex, ez, px, pz = bx - ax, bz - az, across - ax, z - az
        along = np.clip((px * ex + pz * ez) / (ex * ex + ez * ez), 0, 1)
        inner = np.minimum(inner, (px - ex * along) ** 2 + (pz - ez * along) ** 2)
        crosses = (az > z) != (bz > z)
        is_left = across < ax + (z - az) * ex / (ez if ez else 1e-9)
        rest = np.where(crosses & is_left, -rest, rest)
    flat = rest * np.sqrt(inner)
    thick = np.abs(off) - FIN_HALF_THICKNESS
    outside = np.hypot(np.maximum(flat, 0), np.maximum(thick, 0))
    return outside + np.minimum(np.maximum(flat, thick), 0) - FIN_ROUNDING


def _distance(points: Floats) -> Floats:
    return _parts(points).min(axis=0)


def _march(origin: Floats, rays: Floats) -> Floats:
    """Distance along each ray to the rocket; FAR where it is missed."""
    result = np.full(len(rays), FAR)
    active = np.arange(len(rays))
    travelled = np.full(len(rays), CAMERA_DISTANCE - 1.6)
    for _ in range(110):
        step = _distance(origin + rays[active] * travelled[active, None])
        travelled[active] += step
        is_hit = step < HIT
        result[active[is_hit]] = travelled[active[is_hit]]
        active = active[~is_hit & (travelled[active] < CAMERA_DISTANCE + 1.8)]
        if not len(active):
            break
    return result


def _backdrop(origin: Floats, rays: Floats) -> Floats:
    """One colour without end, as of a paper sweep, and on it the soft shadow of the rocket."""
    light = np.tile(BACKDROP, (len(rays), 1))
    falls = rays[:, 2] < -1e-3
    far = np.where(falls, -origin[2] / np.where(falls, rays[:, 2], -1), FAR)
    near = falls & (far < FAR)
    ground = origin + rays[near] * far[near, None]
    reach = np.hypot(ground[:, 0], ground[:, 1])
    close = reach < 3.0
    shadow = np.zeros(len(ground))
    shadow[close] = _ground_shadow(ground[close]) * np.clip((3.0 - reach[close]) / 2, 0, 1)
    light[near] *= 1 - SHADOW_DEPTH * shadow[:, None]
    return light


def _ground_shadow(ground: Floats) -> Floats:
    """Share of the light that the rocket keeps from the ground, in [0, 1], very softly.

    Two blurred ellipses: one below the rocket, one away from the key light.
    """
    x, y = ground[:, 0], ground[:, 1]
    below = np.exp(-((x / 0.72) ** 2 + (y / 0.85) ** 2))
    cast = np.exp(-(((x + 0.45) / 0.8) ** 2 + ((y - 0.55) / 0.95) ** 2))
    return 1 - (1 - 0.75 * below) * (1 - 0.5 * cast)


def _shaded(points: Floats, rays: Floats) -> Floats:
    """Light (n, 3) that the rocket sends to the camera."""
    normals = _normals(points)
    kind = _parts(points).argmin(axis=0)
    kind = np.where((kind == BODY) & _is_painted(points[:, 2]), PAINT, kind)
    key, fill = _unit(KEY_LIGHT[None])[0], _unit(FILL_LIGHT[None])[0]
    shadow = _soft_shadow(points + normals * 4e-3, key)
    towards = np.clip((normals @ key + 0.25) / 1.25, 0, 1)
    occluded = _occlusion(points, normals)
    ambient = (0.34 + 0.18 * normals[:, 2]) * occluded
    bounce = 0.16 * np.clip(-normals[:, 2], 0, 1) * occluded
    direct = 1.05 * towards * (0.25 + 0.75 * shadow) + 0.22 * np.clip(normals @ fill, 0, 1)
    base = COLOURS[kind] * (direct + ambient + bounce)[:, None]
    mirrored = rays - 2 * (rays * normals).sum(1)[:, None] * normals
    fresnel = 0.04 + 0.96 * np.clip(1 + (rays * normals).sum(1), 0, 1) ** 5
    shine = (GLOSS[kind] * fresnel * occluded)[:, None] * _studio(mirrored)
    return base + shine


def _is_painted(z: Floats) -> NDArray[np.bool_]:
    """True for the nose and the band, which are red."""
    return (z > 1.52) | ((z > 0.62) & (z < 0.71))


def _studio(directions: Floats) -> Floats:
    """Light that a mirror would show (n, 3): the backdrop, a pale ceiling, and two soft boxes."""
    height = np.clip(directions[:, 2] * 0.5 + 0.5, 0, 1)[:, None]
    room = BACKDROP * (0.5 + 0.6 * height)
    boxes = 11.0 * _soft_box(directions, KEY_LIGHT, 0.27) + 3.0 * _soft_box(
        directions, np.array([0.45, 0.95, 0.5]), 0.2
    )
    return room + boxes[:, None] * np.array([1.0, 0.97, 0.92])


def _soft_box(directions: Floats, towards: Floats, half_width: float) -> Floats:
    """Brightness of an upright rectangle of light, with soft sides."""
    axis = _unit(towards[None])[0]
    right = _unit(np.cross([0.0, 0.0, 1.0], axis)[None])[0]
    up = np.cross(axis, right)
    depth = np.maximum(directions @ axis, 1e-3)
    u, v = np.abs(directions @ right / depth), np.abs(directions @ up / depth)
    sides = np.clip((half_width - u) / 0.1 + 0.5, 0, 1)
    ends = np.clip((1.7 * half_width - v) / 0.1 + 0.5, 0, 1)
    return np.where(directions @ axis > 0, sides * ends, 0.0)


def _normals(points: Floats) -> Floats:
    gradient = np.zeros_like(points)
    for corner in np.array([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], float):
        gradient += corner * _distance(points + 1e-3 * corner)[:, None]
    return _unit(gradient)


def _soft_shadow(points: Floats, towards: Floats) -> Floats:
    """Share of a wide light that reaches a point, by how near the ray to it passes to a wall."""
    open_part, travelled = np.ones(len(points)), np.full(len(points), 0.02)
    for _ in range(28):
        near = _distance(points + towards * travelled[:, None])
        open_part = np.minimum(open_part, np.clip(0.5 + 3.0 * near / travelled, 0, 1))
        travelled += np.clip(near, 0.02, 0.12)
    return open_part * open_part * (3 - 2 * open_part)


def _occlusion(points: Floats, normals: Floats) -> Floats:
    """Openness of the surroundings, in [0, 1]; the ground counts as a wall."""
    closed = np.zeros(len(points))
    for reach in (0.04, 0.09, 0.16, 0.26):
        at = points + normals * reach
        closed += (reach - np.minimum(_distance(at), at[:, 2] + 0.02)).clip(0) * 0.9
    return np.clip(1 - closed / 0.4, 0.25, 1)


def _unit(vectors: Floats) -> Floats:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _reduced(image: Floats) -> Floats:
    """Means of SAMPLES x SAMPLES pixels."""
    height, width, channels = image.shape
    shape = (height // SAMPLES, SAMPLES, width // SAMPLES, SAMPLES, channels)
    return np.minimum(image, 1.2).reshape(shape).mean(axis=(1, 3))


def _blurred(image: Floats) -> Floats:
    filters: Any = import_module("scipy.ndimage")
    return filters.gaussian_filter(image, (SOFTNESS_PX, SOFTNESS_PX, 0), mode="nearest")


def _to_srgb(linear: Floats) -> Floats:
    linear = np.clip(linear, 0, 1)
    return np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _to_bytes(values: Floats) -> NDArray[np.uint8]:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


if __name__ == "__main__":
    main()
