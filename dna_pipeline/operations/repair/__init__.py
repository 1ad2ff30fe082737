"""Repair of a data folder: rebuilds a ledger from files, takes over claims of dead daemons."""
