"""How Alembic finds the database and the models, and lets one migration run at a time."""

from alembic import context

import database
import models


def run_offline() -> None:
    context.configure(
        dialect_name="postgresql", target_metadata=models.Base.metadata, literal_binds=True
    )
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    engine = database.make_engine(database.database_url(), "alembic")
    database.check_reachable(engine)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=models.Base.metadata)
        with context.begin_transaction():
            database.lock_for_migration(connection)
            context.run_migrations()
    engine.dispose()


if context.is_offline_mode():
    run_offline()
else:
    run_online()
