"""Intake: from files in an inbox to jobs in the ledger."""
