"""The key of a stage run, and what a cancelled job was doing."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("cancelled_while", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("original_place", sa.Text(), nullable=True))
    op.add_column("stage_runs", sa.Column("stage_key", sa.Text(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("stage_runs") as batch_op:
        batch_op.drop_column("stage_key")
    with op.batch_alter_table("jobs") as batch_op:
        batch_op.drop_column("original_place")
        batch_op.drop_column("cancelled_while")
