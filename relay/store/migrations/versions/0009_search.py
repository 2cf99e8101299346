"""Ways to a few emails among millions: by domain, tag and state; and how many a project has."""

from alembic import op
from sqlalchemy import text

revision = "0009"
down_revision = "0008"

TAGS = {"sqlite": "json_each(messages.tags) AS tag", "postgresql": "jsonb_array_elements_text(messages.tags) AS tag(value)"}


def upgrade() -> None:
    from relay.store.schema import email_counts, email_tags

    conn = op.get_bind()
    rare = text("state NOT IN ('queued', 'delivered')")
    op.create_index("recipients_by_state", "recipients", ["project_id", "state", "message_id"], sqlite_where=rare, postgresql_where=rare)
    op.create_index("messages_by_domain", "messages", ["project_id", "domain", "created_at"])
    op.drop_index("messages_by_project", "messages")
    op.create_index("messages_by_project", "messages", ["project_id", "created_at", "id"])
    for table in (email_tags, email_counts):
        table.create(conn)
    each = TAGS[conn.dialect.name]
    conn.exec_driver_sql(f"INSERT INTO email_tags SELECT DISTINCT messages.project_id, tag.value, messages.id FROM messages, {each}")  # noqa: S608
    for kind, name, table in (("all", "''", "messages"), ("domain", "domain", "messages"), ("tag", "tag", "email_tags")):
        group = "" if kind == "all" else f", {name}"
        conn.exec_driver_sql(f"INSERT INTO email_counts SELECT project_id, '{kind}', {name}, count(*) FROM {table} GROUP BY project_id{group}")  # noqa: S608
