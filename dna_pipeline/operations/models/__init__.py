"""What people ask of the files of models: list, pull, verify, convert, export, import."""
