"""The nodes of a Ray cluster, for `doctor`: a process that writes them as one line of JSON.

python -m dna_pipeline.execution.cluster.nodes ADDRESS
"""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import Any

from dna_pipeline.base import ipc
from dna_pipeline.execution.cluster import api


def look(address: str) -> dict[str, Any]:
    """The nodes of the cluster at that address, or the problem with it; "" if there is none."""
    try:
        api.connect(address)
        return {"problem": "", "nodes": [asdict(node) for node in api.nodes()]}
    except api.Lost as error:
        return {"problem": str(error), "nodes": []}


def main() -> None:
    """Entry point of the process."""
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # libraries may print
        out.write(ipc.encoded(look(sys.argv[1])))
        out.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
