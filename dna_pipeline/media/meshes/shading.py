"""The light on a mesh in pictures of it, for numpy and OpenGL: soft, and fixed to the viewer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# In the camera's axes (right, up, backward): the light stays with the viewer.
_KEY_DIRECTION = (-0.55, 0.70, 0.55)
_FILL_DIRECTION = (0.80, 0.10, 0.60)
_RIM_DIRECTION = (0.35, 0.55, -0.75)
_KEY_COLOR = (0.98, 0.95, 0.90)
_FILL_COLOR = (0.14, 0.16, 0.19)
_RIM_COLOR = (0.35, 0.36, 0.39)
_SKY_COLOR = (0.27, 0.285, 0.31)
_GROUND_COLOR = (0.12, 0.11, 0.10)
_KEY_WRAP = 0.15


def towards_viewer(normal: NDArray[Any], eye: NDArray[Any]) -> NDArray[Any]:
    """Unit normals (p, 3), turned to the viewer where the inside of an open mesh is seen.

    eye: (p, 3), the places in the camera's axes, seen from the camera's place.
    """
    shows_inside = np.einsum("pk,pk->p", normal, eye) > 0
    length = np.maximum(np.sqrt(np.einsum("pk,pk->p", normal, normal)), 1e-12)
    return normal * (np.where(shows_inside, -1, 1).astype(normal.dtype) / length)[:, None]


def shade(normal: NDArray[Any], up: NDArray[Any]) -> NDArray[Any]:
    """Light (p, 3) on surfaces with normals (p, 3), linear; about 1 where the key falls.

    up: (3,), the world's up in the camera's axes.
    """
    directions = [up, *map(_unit, (_KEY_DIRECTION, _FILL_DIRECTION, _RIM_DIRECTION))]
    terms = normal @ np.stack(directions, axis=1).astype(normal.dtype)  # (p, 4)
    sky, key, _, rim = terms.T
    sky *= 0.5
    sky += 0.5
    key += _KEY_WRAP
    key /= 1 + _KEY_WRAP
    np.clip(terms[:, 1:], 0, 1, out=terms[:, 1:])
    rim *= (1 - np.clip(normal[:, 2], 0, 1)) ** 2  # grazing light alone
    ground = np.array(_GROUND_COLOR)
    colors = np.stack([_SKY_COLOR - ground, _KEY_COLOR, _FILL_COLOR, _RIM_COLOR])
    return terms @ colors.astype(terms.dtype) + ground.astype(terms.dtype)


def _unit(direction: tuple[float, float, float]) -> NDArray[np.float64]:
    return np.array(direction) / np.linalg.norm(direction)


def _vec3(values: Sequence[float] | NDArray[np.float64]) -> str:
    return f"vec3({', '.join(repr(float(value)) for value in values)})"


GLSL = f"""
vec3 towards_viewer(vec3 normal, vec3 eye) {{
    vec3 unit = normal / max(length(normal), 1e-12);
    return dot(normal, eye) > 0 ? -unit : unit;
}}

vec3 shade(vec3 normal, vec3 up) {{
    float sky = 0.5 + 0.5 * dot(normal, up);
    float wrapped = dot(normal, {_vec3(_unit(_KEY_DIRECTION))}) + {_KEY_WRAP};
    float key = clamp(wrapped / {1 + _KEY_WRAP}, 0, 1);
    float fill = clamp(dot(normal, {_vec3(_unit(_FILL_DIRECTION))}), 0, 1);
    float grazing = 1 - clamp(normal.z, 0, 1);
    float rim = clamp(dot(normal, {_vec3(_unit(_RIM_DIRECTION))}), 0, 1) * grazing * grazing;
    return mix({_vec3(_GROUND_COLOR)}, {_vec3(_SKY_COLOR)}, sky) + key * {_vec3(_KEY_COLOR)}
        + fill * {_vec3(_FILL_COLOR)} + rim * {_vec3(_RIM_COLOR)};
}}
"""
"""The two functions above in OpenGL's language."""
