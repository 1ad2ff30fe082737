"""`python -m dna_pipeline`."""

from dna_pipeline.interfaces.cli.main import main

main()
