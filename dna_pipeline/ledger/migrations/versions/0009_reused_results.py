"""The job whose result a stage took."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("stage_runs", sa.Column("reused_from", sa.JSON(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("stage_runs") as batch_op:
        batch_op.drop_column("reused_from")
