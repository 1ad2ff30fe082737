"""Puts outcomes of jobs into the outbox."""
