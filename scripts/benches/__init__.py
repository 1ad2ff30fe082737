"""Benches, a module each: `add_arguments(parser)` adds its options, `run(args)` gives a report."""
