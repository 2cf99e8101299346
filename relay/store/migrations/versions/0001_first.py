"""The schema of the first release. A new database gets it from relay.store.schema, so no database ever comes through here: it is where later ones begin."""

revision = "0001"
down_revision = None


def upgrade() -> None:
    raise RuntimeError("a new database is made by relay.store.migrations.create")
