"""What mends a data folder: a ledger rebuilt from the files, claims of the dead taken over."""
