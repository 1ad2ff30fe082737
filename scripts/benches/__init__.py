"""A module a bench: `add_arguments(parser)` tells what it takes, `run(args)` gives its facts."""
