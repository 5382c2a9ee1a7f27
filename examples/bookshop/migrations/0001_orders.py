"""The bookshop's tables."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "orders",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("placed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("customer", sa.Text(), nullable=False, comment="The bookshop's number for them"),
        sa.Column("currency", sa.Text(), nullable=False, comment="ISO 4217"),
        sa.Column(
            "import_id",
            sa.Text(),
            nullable=False,
            comment="The import that wrote this row last (imports.id)",
        ),
        sa.Column(
            "imported_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orders")),
        schema="bookshop",
        comment="Orders of the bookshop, one row each",
    )
    op.create_index(
        op.f("ix_orders_import_id"), "orders", ["import_id"], unique=False, schema="bookshop"
    )
    op.create_table(
        "order_lines",
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "line",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="From 1, in the order of the list",
        ),
        sa.Column("isbn", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column(
            "price_cents",
            sa.Integer(),
            nullable=False,
            comment="Of one copy, in the order's currency",
        ),
        sa.ForeignKeyConstraint(
            ["order_id"],
            ["bookshop.orders.id"],
            name=op.f("fk_order_lines_order_id_orders"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("order_id", "line", name=op.f("pk_order_lines")),
        schema="bookshop",
        comment="What was ordered: the list `lines` of an order",
    )


def downgrade() -> None:
    op.drop_table("order_lines", schema="bookshop")
    op.drop_index(op.f("ix_orders_import_id"), table_name="orders", schema="bookshop")
    op.drop_table("orders", schema="bookshop")
