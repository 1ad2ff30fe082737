"""How the weights of the small models are chosen.

They are not trained but set by hand, with small random ones around them (fixed seeds, so every
run makes the same tensors). The Stable Diffusion blurs noise away and lets the prompt tint what is
left; the TripoSR inflates a picture's foreground into a closed, coloured shape. Both are good
enough to look at, and far too simple to be of any other use.

Two tricks make networks full of norms and activations compute plain linear functions:

- Channels stand in pairs (x, -x), since silu(x) - silu(-x) = x.
- A pair (K, -K) of large constants shares the norm's group, so that the group's mean is 0 and its
  deviation a known constant; the norm's own weight then cancels it.
"""

import json
from pathlib import Path
from typing import Any


def write_json(path: Path, value: Any) -> None:
    """Write `value` for people to read; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")
