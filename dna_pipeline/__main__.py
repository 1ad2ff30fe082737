"""`python -m dna_pipeline`, and the installed program `dna-pipeline`."""

from __future__ import annotations

import sys

EXIT_INTERRUPTED = 130
"""Exit status of a program that Ctrl-C ended: 128 and the number of SIGINT."""


def main() -> None:
    """Import and run the command line. Ctrl-C during the import ends it without a traceback."""
    try:
        from dna_pipeline.interfaces.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    run()


if __name__ == "__main__":
    main()
