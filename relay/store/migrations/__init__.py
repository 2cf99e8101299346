"""The versions of the schema, and how a database comes to the present one.

A new database gets the tables of relay.store.schema at once and is stamped with HEAD; an older one goes through the files in `versions/`, in order (Alembic).
Each migration leaves the previous release working: expand now, contract a release later (B16). tests/store/test_migrations.py proves that a database of each
release comes to the same schema as a new one.

On SQLite the file is copied before it is changed (`relay.db.before-0002`). On PostgreSQL only `relay migrate` changes a schema, because other nodes may run
on it. Alembic is imported only when there is something to do.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect

from relay.errors import StoreError
from relay.store.audience import schema as _audience  # noqa: F401  its tables are in the metadata too
from relay.store.broadcasts import schema as _broadcasts  # noqa: F401
from relay.store.inbound import schema as _inbound  # noqa: F401
from relay.store.schema import metadata
from relay.store.workflows import schema as _workflows  # noqa: F401

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011", "0016", "0012", "0013", "0014",
             "0017", "0018", "0019")  # each that of the next
HEAD = REVISIONS[-1]
VERSIONS = Path(__file__).parent / "versions"

LOCK = 7_263_421_101  # any number: what the nodes that migrate one PostgreSQL database wait on


def prepare(conn: Connection, *, migrate: bool) -> None:
    """Bring the schema to HEAD, or refuse. Raises StoreError for one that is newer, or older and not to be migrated."""
    if conn.dialect.name == "sqlite":
        _prepare_sqlite(conn)
        return
    conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
    found = revision(conn)
    if found is None:
        create(conn)
    elif found != HEAD:
        if not migrate:
            check(conn)
        _upgrade(conn, found)


def _prepare_sqlite(conn: Connection) -> None:
    found = revision(conn)
    if found == HEAD:
        return
    if found is not None:
        _known(found)
        _copy(conn, found)
    conn.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        if found is None:
            create(conn)
        else:
            _upgrade(conn, found)
    except BaseException:
        conn.exec_driver_sql("ROLLBACK")
        raise
    conn.exec_driver_sql("COMMIT")


def check(conn: Connection) -> None:
    """Raises StoreError unless the schema is of this version."""
    found = revision(conn)
    if found is None:
        raise StoreError("the store is empty; start `relay serve` or run `relay migrate` first")
    if found != HEAD:
        _known(found)
        raise StoreError(f"the store has schema {found} and this Relay needs {HEAD}; run `relay migrate` when no older relay uses it any more")


def revision(conn: Connection) -> str | None:
    """The version of the schema in the database; None for one without tables."""
    if not inspect(conn).has_table("alembic_version"):
        return None
    return conn.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def create(conn: Connection) -> None:
    """All tables, and the stamp."""
    metadata.create_all(conn)
    conn.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    conn.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{HEAD}')")  # noqa: S608  our own constant
    if conn.dialect.name == "postgresql":
        conn.exec_driver_sql("ALTER TABLE queue SET (autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_scale_factor = 0.02, fillfactor = 70)")


def _known(found: str) -> None:
    if found not in REVISIONS:
        raise StoreError(f"the store has schema {found}, which is newer than this Relay ({HEAD}); install the Relay that wrote it, or a newer one")


def _copy(conn: Connection, found: str) -> None:
    """The database file as it was, beside it, before the first change."""
    path = Path(conn.exec_driver_sql("PRAGMA database_list").first()[2])
    target = path.with_name(f"{path.name}.before-{HEAD}")
    target.unlink(missing_ok=True)
    conn.exec_driver_sql("VACUUM INTO ?", (str(target),))


def _upgrade(conn: Connection, found: str) -> None:
    _known(found)
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("version_locations", str(VERSIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.attributes["connection"] = conn
    command.upgrade(config, "head")
