"""Batches: what a drop of several jobs asked for, row by row."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("drops", sa.Column("batch", sa.Text(), nullable=True))
    op.create_index("ix_drops_batch", "drops", ["batch"], sqlite_where=sa.text("batch IS NOT NULL"))
    op.add_column("jobs", sa.Column("key", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("request", sa.Text(), nullable=True))
    op.create_index("ix_jobs_key", "jobs", ["key"], sqlite_where=sa.text("key IS NOT NULL"))
    op.create_table(
        "batches",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("inbox", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("stem", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("originals", sa.Text(), nullable=False),
        sa.Column("max_failures", sa.Integer(), nullable=True),
        sa.Column("paused", sa.Text(), nullable=True),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("wrong", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("finished_at", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "ix_batches_open", "batches", ["state"], sqlite_where=sa.text("state <> 'done'")
    )
    op.create_table(
        "batch_rows",
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("image", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("field", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("batch_id", "number"),
    )
    op.create_index("ix_batch_rows_job_id", "batch_rows", ["job_id"])
    # The status of a job changes often, and each index with it in is written anew then.
    op.drop_index("ix_jobs_name", "jobs")
    op.create_index("ix_jobs_name", "jobs", ["inbox", "folder", "stem"])


def downgrade() -> None:
    op.drop_index("ix_jobs_name", "jobs")
    op.create_index("ix_jobs_name", "jobs", ["inbox", "folder", "stem", "status"])
    op.drop_table("batch_rows")
    op.drop_table("batches")
    op.drop_index("ix_jobs_key", "jobs")
    op.drop_index("ix_drops_batch", "drops")
    with op.batch_alter_table("jobs") as batch_op:
        batch_op.drop_column("request")
        batch_op.drop_column("key")
    with op.batch_alter_table("drops") as batch_op:
        batch_op.drop_column("batch")
