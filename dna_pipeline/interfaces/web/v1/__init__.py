"""The small typed API `/api/v1`: drops, jobs, batches, results, events, holds, models."""
