"""Everything that can be asked of the program. Returns data, prints nothing."""
