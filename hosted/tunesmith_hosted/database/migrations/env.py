"""Alembic runs this: it applies the steps on the connection that it was given."""

from alembic import context

from tunesmith_hosted.database.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    compare_type=True,
    compare_server_default=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
