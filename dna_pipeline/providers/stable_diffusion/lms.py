"""The sampler `lms`, right from wherever in the schedule it begins."""

from __future__ import annotations

from importlib import import_module
from typing import Any

ORDER = 4
"""Most steps, the current one included, from which the next one is computed."""

_Diffusers: Any = import_module("diffusers").LMSDiscreteScheduler


class LMSDiscreteScheduler(_Diffusers):
    """Diffusers' scheduler of that name, of an order that the steps so far can bear.

    Image to image begins within the schedule. Diffusers chooses the order by the place in the
    schedule, and so multiplies the first derivative, the only one, by a coefficient that was meant
    for four: at strength 0.4 the first step goes twice as far as it should. Here the order is the
    number of derivatives, as in `sample_lms` of k-diffusion. At strength 1 both are the same.
    """

    def step(
        self, model_output: Any, timestep: Any, sample: Any, order: int = ORDER, **options: Any
    ) -> Any:
        order = min(order, len(self.derivatives) + 1)
        return _Diffusers.step(self, model_output, timestep, sample, order=order, **options)
