"""The nearness of two pictures, or of two series of them, in one number."""

from __future__ import annotations

from typing import Any

import numpy as np


def psnr_db(picture: np.ndarray[Any, Any], exact: np.ndarray[Any, Any], peak: float = 255) -> float:
    """Peak signal to noise; infinite if both are equal.

    Args:
        peak: difference between black and white, 1 for pictures of floating-point numbers.
    """
    noise = float(np.square(picture.astype(np.float64) - exact).mean())
    return float("inf") if noise == 0 else 10 * float(np.log10(peak**2 / noise))
