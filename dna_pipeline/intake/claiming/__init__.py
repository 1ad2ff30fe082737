"""Makes files of an inbox ours, and records them in the ledger."""
