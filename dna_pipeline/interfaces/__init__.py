"""Ways to reach the program: they parse, call an operation, and print."""
