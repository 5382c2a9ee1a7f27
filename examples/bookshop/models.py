"""The tables of the bookshop: in a schema of their own, with migrations of their own."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, MetaData, text
from sqlalchemy.orm import Mapped, mapped_column

import models


class Base(models.Base):
    __abstract__ = True

    metadata = MetaData(schema="bookshop", naming_convention=models.Base.metadata.naming_convention)


class Orders(Base):
    __tablename__ = "orders"
    __table_args__ = {"comment": "Orders of the bookshop, one row each"}

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    placed_at: Mapped[datetime]
    customer: Mapped[str] = mapped_column(comment="The bookshop's number for them")
    currency: Mapped[str] = mapped_column(comment="ISO 4217")
    import_id: Mapped[str] = mapped_column(
        index=True, comment="The import that wrote this row last (imports.id)"
    )
    imported_at: Mapped[datetime] = mapped_column(server_default=text("now()"))


class OrderLines(Base):
    __tablename__ = "order_lines"
    __table_args__ = {"comment": "What was ordered: the list `lines` of an order"}

    order_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey(Orders.id, ondelete="CASCADE"), primary_key=True
    )
    line: Mapped[int] = mapped_column(
        primary_key=True, autoincrement=False, comment="From 1, in the order of the list"
    )
    isbn: Mapped[str]
    title: Mapped[str]
    quantity: Mapped[int]
    price_cents: Mapped[int] = mapped_column(comment="Of one copy, in the order's currency")
