"""What Alembic runs: the migrations, on the connection and inside the transaction that it is given."""

from alembic import context

from relay.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=False, render_as_batch=True)
context.run_migrations()
