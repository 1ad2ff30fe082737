"""From files in an inbox to jobs in the ledger: where inbox, sidecars and ledger meet."""
