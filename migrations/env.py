"""How Alembic finds the database and the models, and lets one migration run at a time.

A source's own configuration names the base class of its models. Their metadata has a schema, which
also holds the version of its migrations: none sees the tables of another.
"""

from importlib import import_module

from alembic import context
from sqlalchemy import MetaData
from sqlalchemy.schema import CreateSchema

import database


def find_metadata() -> MetaData:
    module, _, base = context.config.get_alembic_option("models", "models.Base").rpartition(".")
    metadata: MetaData = getattr(import_module(module), base).metadata
    return metadata


METADATA = find_metadata()


def is_ours(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "schema" or name == METADATA.schema


def run_offline() -> None:
    context.configure(
        dialect_name="postgresql",
        target_metadata=METADATA,
        version_table_schema=METADATA.schema,
        literal_binds=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    engine = database.make_engine(database.database_url(), "alembic")
    database.check_reachable(engine)
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=METADATA,
            version_table_schema=METADATA.schema,
            include_schemas=METADATA.schema is not None,
            include_name=is_ours,
        )
        with context.begin_transaction():
            database.lock_for_migration(connection)
            if METADATA.schema is not None:
                # Before any migration: Alembic keeps the version in it.
                connection.execute(CreateSchema(METADATA.schema, if_not_exists=True))
            context.run_migrations()
    engine.dispose()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
