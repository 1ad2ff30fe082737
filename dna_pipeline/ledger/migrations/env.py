"""Runs one migration step in the connection that `ledger.schema` hands over."""

from alembic import context

from dna_pipeline.ledger.tables import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
