"""Versions of the schema: a new database has all of it, an older one is brought up or refused, a newer one is refused.

The release after this one is made up here: a revision that adds a column, in a directory of its own.
"""

from __future__ import annotations

import re
import shutil

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from relay.errors import StoreError
from relay.store import messages, migrations
from relay.store.engine import Store
from relay.store.schema import metadata
from tests.store.conftest import PROJECT, made
from tests.store.test_engine import keys, put
from tests.support.ages import first_release

HEAD, REVISIONS = migrations.HEAD, migrations.REVISIONS
NEXT = """
from alembic import op
from sqlalchemy import Column, Text

revision, down_revision = "9001", "{head}"


def upgrade():
    op.add_column("meta", Column("note", Text))
    {more}
"""


def stamp(conn, revision):
    conn.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")


def columns(conn):
    return {column["name"] for column in inspect(conn).get_columns("meta")}


@pytest.fixture
def next_release(monkeypatch, tmp_path):
    """Relay as it will be one release later; call it with a statement that the migration also runs."""
    def release(more="pass"):
        versions = tmp_path / "versions"
        shutil.copytree(migrations.VERSIONS, versions, ignore=shutil.ignore_patterns("__pycache__"))
        (versions / "9001_next.py").write_text(NEXT.format(more=more, head=HEAD))
        monkeypatch.setattr(migrations, "VERSIONS", versions)
        monkeypatch.setattr(migrations, "HEAD", "9001")
        monkeypatch.setattr(migrations, "REVISIONS", (*REVISIONS, "9001"))

    return release


async def test_a_new_database_has_the_schema(store):
    def differences(conn):
        context = MigrationContext.configure(conn, opts={"compare_type": False})
        return [d for d in compare_metadata(context, metadata) if not ("events_by_xid" in str(d) and conn.dialect.name == "sqlite")]

    assert await store.read(differences) == []
    assert await store.read(migrations.revision) == migrations.HEAD


def test_the_revisions_are_those_of_the_files():
    said = "\n".join(path.read_text() for path in migrations.VERSIONS.glob("0*.py"))
    chain = dict(re.findall(r'^revision = "(\d+)"\ndown_revision = (?:"(\d+)"|None)$', said, re.MULTILINE))
    assert chain == dict(zip(migrations.REVISIONS, ("", *migrations.REVISIONS), strict=False))
    assert migrations.REVISIONS[-1] == migrations.HEAD


async def test_a_newer_store_is_refused(store_url, tmp_path):
    one = await Store.open(store_url, tmp_path / "data")
    await one.write(stamp, "9999")
    await one.close()
    for read_only in (False, True):
        with pytest.raises(StoreError, match="9999, which is newer"):
            await Store.open(store_url, tmp_path / "data", read_only=read_only)


async def test_an_older_sqlite_store_is_copied_and_migrated(sqlite_url, tmp_path, next_release):
    one = await Store.open(sqlite_url, tmp_path / "data")
    await one.write(lambda conn: conn.exec_driver_sql(f"INSERT INTO projects VALUES ({PROJECT}, 'default', '{{}}', 1.0)") and None)
    message = made()
    await one.write_many(messages.add_many, message)
    await one.close()
    next_release()
    two = await Store.open(sqlite_url, tmp_path / "data")
    assert "note" in await two.read(columns)
    assert await two.read(migrations.revision) == "9001"
    assert await two.read(messages.load, message.id) == message
    copy = two.path.with_name("relay.db.before-9001")
    await two.close()
    old = await Store.open(f"sqlite:///{copy}", tmp_path / "data2", migrate=True)
    assert await old.read(messages.have, message.id)
    await old.close()


async def test_a_migration_that_fails_leaves_the_store_as_it_was(sqlite_url, tmp_path, next_release):
    one = await Store.open(sqlite_url, tmp_path / "data")
    await one.write(put, "kept")
    await one.close()
    next_release(more='raise RuntimeError("half way")')
    with pytest.raises(RuntimeError, match="half way"):
        await Store.open(sqlite_url, tmp_path / "data")
    migrations.HEAD, migrations.REVISIONS = HEAD, REVISIONS
    again = await Store.open(sqlite_url, tmp_path / "data")
    assert await again.read(keys) == {"kept"}
    assert "note" not in await again.read(columns)
    await again.close()


async def test_an_older_postgresql_store_needs_relay_migrate(postgres_url, tmp_path, next_release):
    one = await Store.open(postgres_url, tmp_path / "data")
    await one.write(put, "kept")
    await one.close()
    next_release()
    with pytest.raises(StoreError, match="relay migrate"):
        await Store.open(postgres_url, tmp_path / "data")
    two = await Store.open(postgres_url, tmp_path / "data", migrate=True)
    assert "note" in await two.read(columns)
    assert await two.read(keys) == {"kept"}
    await two.close()


async def test_an_empty_store_is_not_opened_to_read(tmp_path):
    empty = tmp_path / "empty.db"
    empty.touch()
    with pytest.raises(StoreError, match="relay serve"):
        await Store.open(f"sqlite:///{empty}", tmp_path / "data", read_only=True)


async def test_a_store_of_the_first_release_comes_to_the_same_schema(store_url, tmp_path):
    """The first release had no audience, and no suppression ended by itself: tables, columns and indexes are made by the migrations."""
    one = await Store.open(store_url, tmp_path / "data")

    def shape(conn):
        found = inspect(conn)
        return {name: ({column["name"] for column in found.get_columns(name)}, {index["name"] for index in found.get_indexes(name)})
                for name in found.get_table_names()}

    wanted = await one.read(shape)
    await one.write(first_release)
    assert await one.read(shape) != wanted
    await one.close()
    two = await Store.open(store_url, tmp_path / "data", migrate=True)
    assert await two.read(shape) == wanted
    assert await two.read(migrations.revision) == migrations.HEAD
    await two.close()
