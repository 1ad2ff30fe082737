"""Publishing: puts outcomes of jobs into the outbox."""
