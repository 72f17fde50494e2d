"""Runs migrations on the connection, and in the transaction, that :mod:`service.store` hands over."""

from alembic import context

from service.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
