"""Runs migrations in the connection and the transaction of the caller, :mod:`service.store.served_versions`."""

from alembic import context

from service.store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
