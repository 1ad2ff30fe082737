"""`python -m dna_pipeline`."""

from dna_pipeline.cli.main import main

main()
