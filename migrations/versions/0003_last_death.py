"""Which death of a chunk's worker was counted last, so that each counts once."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column(
        "chunks",
        sa.Column(
            "last_death",
            sa.Text(),
            nullable=True,
            comment="The one counted last: of which worker, and when that had taken the chunk",
        ),
    )


def downgrade() -> None:
    op.drop_column("chunks", "last_death")
