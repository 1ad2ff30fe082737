"""The command line. Importing it imports no torch."""
