"""Names of result folders, the axes of batches, and how far their contact sheets are."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("result_name", sa.Text(), nullable=True))
    op.add_column("batches", sa.Column("axes", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("batches", sa.Column("sheet", sa.Text(), nullable=True))
    op.create_index(
        "ix_batches_sheet", "batches", ["sheet"], sqlite_where=sa.text("sheet <> 'made'")
    )


def downgrade() -> None:
    op.drop_index("ix_batches_sheet", "batches")
    with op.batch_alter_table("batches") as batch_op:
        batch_op.drop_column("sheet")
        batch_op.drop_column("axes")
    with op.batch_alter_table("jobs") as batch_op:
        batch_op.drop_column("result_name")
