"""`python -m dna_pipeline`, and the installed program `dna-pipeline`."""

from __future__ import annotations

import sys

from dna_pipeline.base.garbage import collect_seldom

EXIT_INTERRUPTED = 130
"""Exit status of a program that Ctrl-C ended: 128 and the number of SIGINT."""


def main() -> None:
    """Import and run the command line. Ctrl-C during the import ends it without a traceback."""
    collect_seldom()
    try:
        from dna_pipeline.interfaces.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    run()


if __name__ == "__main__":
    main()
