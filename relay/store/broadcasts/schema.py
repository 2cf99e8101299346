"""The tables of broadcasts; conventions as in relay.store.schema.

The ledger has one row for each (broadcast, contact), whose id is that of the recipient in the queue: so no contact is queued twice, whatever crashes, and what
becomes of the recipient is found by its id. It names no address: a contact that is deleted leaves a number.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, Integer, SmallInteger, String, Table, Text, UniqueConstraint

from relay.store.schema import Id, Json, _id, _project, _where, metadata


def _broadcast() -> Column:
    return Column("broadcast_id", Id, ForeignKey("broadcasts.id", ondelete="CASCADE"), primary_key=True, autoincrement=False)


broadcasts = Table(
    "broadcasts", metadata, _id(), _project(),
    Column("name", String(200), nullable=False),
    Column("status", String(12), nullable=False),  # draft | scheduled | queued | sending | paused | sent | cancelled | failed
    Column("sender", Text, nullable=False),  # the From field
    Column("reply_to", Json, nullable=False),
    Column("subject", Text, nullable=False),
    Column("html", Text),
    Column("text", Text),
    Column("template_id", Id),  # its published texts, as they are at the start, in place of those above
    Column("segment_id", Id),
    Column("audience_id", Id),
    Column("topic_id", Id),
    Column("everyone", Boolean, nullable=False),  # all contacts, said on purpose
    Column("rules", Json),  # a question of the broadcast's own, in any grammar of segments
    Column("per_minute", Integer),  # copies, None = as fast as the sites allow
    Column("tracking", Json, nullable=False),  # {"opens": true}: what is not said is as the domain has it
    Column("ab_test", Json),  # {"sample", "minutes", "metric"}; the texts are in broadcast_variants
    Column("dialect", String(8), nullable=False),  # native | plunk: what a one-click means
    Column("origin", Json, nullable=False),  # key_id, mode, domain of the key that sends it
    Column("error", Text, nullable=False),  # why it failed or was paused
    Column("scheduled_at", Float),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("asked", Json, nullable=False),  # the audience as it was at the start: a question that does not change under way
    Column("cursor", Id, nullable=False),  # the last contact that was looked at
    Column("until", Id, nullable=False),  # the last that there was at the start
    Column("gathered", Boolean, nullable=False),  # everybody is in the ledger
    Column("seen", Integer, nullable=False),  # rows that were not skipped, for fair shares of variants
    Column("test_ends_at", Float),
    Column("winner", SmallInteger),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("description", String(500), nullable=False, server_default=""),
    Column("kind", String(16), nullable=False, server_default="marketing"),  # marketing | headless | transactional
    Index("broadcasts_by_project", "project_id", "id"),
    Index("broadcasts_by_status", "status", **_where("status IN ('scheduled', 'queued', 'sending')")),
)

variants = Table(
    "broadcast_variants", metadata, _broadcast(),
    Column("number", SmallInteger, primary_key=True, autoincrement=False),  # from 1
    Column("name", String(100), nullable=False),
    Column("subject", Text, nullable=False),
    Column("html", Text),
    Column("text", Text),
    Column("weight", Integer, nullable=False),
    Column("facts", Json, nullable=False),  # spam_score and what else the check of this variant found
)

ledger = Table(
    "broadcast_recipients", metadata, _id(),  # of the recipient in the queue too
    Column("broadcast_id", Id, ForeignKey("broadcasts.id", ondelete="CASCADE"), nullable=False),
    Column("contact_id", Id, nullable=False),
    Column("variant", SmallInteger, nullable=False),  # 0 until the winner is known
    Column("domain", String(255), nullable=False),
    Column("waiting", SmallInteger),  # 0 = for the winner of a test, 1 = for its turn, 2 = in the queue, None = it has ended
    Column("state", String(12), nullable=False),  # pending | queued, then one of delivered bounced failed suppressed cancelled skipped
    Column("reason", String(200), nullable=False),  # why skipped or failed
    Column("at", Float, nullable=False),  # of the last change of state
    Column("opened_at", Float),
    Column("clicked_at", Float),
    Column("unsubscribed_at", Float),
    Column("complained_at", Float),
    UniqueConstraint("broadcast_id", "contact_id"),
    Index("broadcast_recipients_by_turn", "broadcast_id", "waiting", "domain", "contact_id", **_where("waiting IS NOT NULL")),
)

counts = Table(
    "broadcast_counts", metadata, _broadcast(),
    Column("variant", SmallInteger, primary_key=True, autoincrement=False),
    Column("name", String(32), primary_key=True),  # a state of the ledger, skipped.<reason>, opened, clicked, unsubscribed, complained
    Column("count", Integer, nullable=False),
)

links = Table(
    "broadcast_links", metadata, _broadcast(),
    Column("hash", String(32), primary_key=True),  # of the URL
    Column("url", Text, nullable=False),
    Column("clicks", Integer, nullable=False),
    Column("people", Integer, nullable=False),
)

clicks = Table(
    "broadcast_clicks", metadata,
    Column("recipient_id", Id, ForeignKey("broadcast_recipients.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("hash", String(32), primary_key=True),  # who clicked what: a link's people are counted once
)

TABLES = (broadcasts, variants, ledger, counts, links, clicks)
