"""The tables of the audience; conventions as in relay.store.schema.

Whatever hangs on a contact goes with it (ON DELETE CASCADE): deleting a person is one statement that forgets nothing. `optouts` outlives it, and has a keyed
hash in place of the address.
"""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint, false

from relay.store.schema import Id, Json, _id, _project, _where, metadata


def _contact(**more: bool) -> Column:
    return Column("contact_id", Id, ForeignKey("contacts.id", ondelete="CASCADE"), nullable=False, **more)


contacts = Table(
    "contacts", metadata, _id(), _project(),
    Column("key", String(320), nullable=False),  # the address in normal form
    Column("email", String(320), nullable=False),
    Column("first_name", String(255)),
    Column("last_name", String(255)),
    Column("properties", Json, nullable=False),
    Column("tags", Json, nullable=False),  # a list of texts
    Column("unsubscribed", Boolean, nullable=False),
    Column("unsubscribed_at", Float),
    Column("search", Text, nullable=False),  # address and names, folded: what a search looks through
    Column("last_active_at", Float),  # the last open, click or tracked event by a person
    Column("import_id", Id),  # the import that made it
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    UniqueConstraint("project_id", "key"),
    Index("contacts_by_project", "project_id", "id"),
    Index("contacts_by_import", "import_id", **_where("import_id IS NOT NULL")),
)

contact_properties = Table(
    "contact_properties", metadata, _id(), _project(),
    Column("name", String(64), nullable=False),
    Column("label", String(128), nullable=False),
    Column("type", String(8), nullable=False),  # text | number | boolean | date | select
    Column("options", Json, nullable=False),  # of a select: a list of texts
    Column("required", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("project_id", "name"),
)

contact_history = Table(
    "contact_history", metadata, _id(), _contact(),
    Column("at", Float, nullable=False),
    Column("act", String(32), nullable=False),  # relay.store.audience.history.Entry
    Column("source", String(32), nullable=False),  # api | import | form | one-click | page | preferences | mailto | bounce | complaint | earlier
    Column("evidence", Json, nullable=False),
    Index("contact_history_by_contact", "contact_id", "id"),
)

optouts = Table(
    "optouts", metadata,
    Column("project_id", Id, ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("hash", String(64), primary_key=True),  # HMAC of the normal form, hex
    Column("scope", String(64), primary_key=True),  # all | marketing | topic:<id>
    Column("at", Float, nullable=False),
)

audiences = Table(
    "audiences", metadata, _id(), _project(),
    Column("name", String(128), nullable=False),
    Column("description", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    UniqueConstraint("project_id", "name"),
)

audience_members = Table(
    "audience_members", metadata,
    Column("audience_id", Id, ForeignKey("audiences.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("contact_id", Id, ForeignKey("contacts.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("added_at", Float, nullable=False),
    Index("audience_members_by_contact", "contact_id"),
)

segments = Table(
    "segments", metadata, _id(), _project(index=True),
    Column("name", String(128), nullable=False),
    Column("description", Text, nullable=False),
    Column("rules", Json),  # as given, in any grammar; null = static
    Column("audience_id", Id, ForeignKey("audiences.id", ondelete="SET NULL")),
    Column("tracked", Boolean, nullable=False),  # entries and exits become events
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("settled", Boolean, nullable=False, server_default=false()),  # its memberships are those from which entries and exits are told
    Index("segments_tracked", "project_id", **_where("tracked", "tracked = 1")),
)

segment_members = Table(
    "segment_members", metadata,
    Column("segment_id", Id, ForeignKey("segments.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("contact_id", Id, ForeignKey("contacts.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("added_at", Float, nullable=False),
    Index("segment_members_by_contact", "contact_id"),
)

memberships = Table(  # of tracked segments of both kinds: who is in, as far as entries and exits have been told
    "memberships", metadata,
    Column("segment_id", Id, ForeignKey("segments.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("contact_id", Id, ForeignKey("contacts.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("since", Float, nullable=False),
    Index("memberships_by_contact", "contact_id"),
)

segment_days = Table(
    "segment_days", metadata,
    Column("segment_id", Id, ForeignKey("segments.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("day", Integer, primary_key=True, autoincrement=False),  # days since 1970, UTC
    Column("came", Integer, nullable=False),
    Column("went", Integer, nullable=False),
)

segment_sizes = Table(  # of segments that are asked anew each time: how many contacts they had when a day was counted
    "segment_sizes", metadata,
    Column("segment_id", Id, ForeignKey("segments.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("day", Integer, primary_key=True, autoincrement=False),  # days since 1970, UTC
    Column("members", Integer, nullable=False),
)

changes = Table(  # contacts whose memberships may have changed; without foreign keys, since a contact that is gone has none
    "changes", metadata,
    Column("id", Id, primary_key=True),
    Column("project_id", Id, nullable=False),
    Column("contact_id", Id, nullable=False),
    Column("quiet", Boolean, nullable=False),
    Index("changes_by_contact", "contact_id"),
)

topics = Table(
    "topics", metadata, _id(), _project(),
    Column("name", String(128), nullable=False),
    Column("description", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("project_id", "name"),
)

subscriptions = Table(
    "subscriptions", metadata,
    Column("topic_id", Id, ForeignKey("topics.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("contact_id", Id, ForeignKey("contacts.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("subscribed", Boolean, nullable=False),  # no row = subscribed
    Column("updated_at", Float, nullable=False),
    Index("subscriptions_by_contact", "contact_id"),
)

activity = Table(
    "activity", metadata,
    Column("contact_id", Id, ForeignKey("contacts.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("name", String(64), primary_key=True),  # email.opened, email.clicked ..., or the name of an event of the project's own
    Column("day", Integer, primary_key=True, autoincrement=False),  # days since 1970, UTC
    Column("count", Integer, nullable=False),
    Column("first_at", Float, nullable=False),
    Column("last_at", Float, nullable=False),
)

followers = Table(  # who reads the event log to its end, and how far they are
    "followers", metadata,
    Column("name", String(64), primary_key=True),
    Column("cursor", String(48), nullable=False),
)

imports = Table(
    "imports", metadata, _id(), _project(index=True),
    Column("state", String(12), nullable=False),  # running | completed | failed | undone
    Column("figures", Json, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("job", Json, nullable=False, server_default="{}"),  # what to do with which file, as relay.audience.imports needs it to go on after a crash
    Column("reached", Integer, nullable=False, server_default="0"),  # the last row of the file that is in
    Column("reason", Text, nullable=False, server_default=""),  # why it failed
)

import_changes = Table(  # what contacts were that an import changed, so that it can be undone
    "import_changes", metadata,
    Column("import_id", Id, ForeignKey("imports.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("contact_id", Id, ForeignKey("contacts.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("before", Json, nullable=False),
    Index("import_changes_by_contact", "contact_id"),
)

import_errors = Table(
    "import_errors", metadata,
    Column("import_id", Id, ForeignKey("imports.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("row", Integer, primary_key=True, autoincrement=False),  # of the file, its header being row 1
    Column("email", String(320), nullable=False),
    Column("error", Text, nullable=False),
)

signup_forms = Table(
    "signup_forms", metadata, _id(), _project(index=True),
    Column("name", String(128), nullable=False),
    Column("active", Boolean, nullable=False),
    Column("segment_id", Id, ForeignKey("segments.id", ondelete="SET NULL")),
    Column("topic_id", Id, ForeignKey("topics.id", ondelete="SET NULL")),
    Column("fields", Json, nullable=False),  # [{name, type, label, required, placeholder, options}]
    Column("success_message", String(500), nullable=False),
    Column("redirect_url", Text, nullable=False),  # the only place that a form leads to; "" = nowhere
    Column("double_opt_in", Boolean, nullable=False),
    Column("sender", Text, nullable=False),  # From of the letter that asks for the confirmation; "" without one
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("submissions", Integer, nullable=False, server_default="0"),  # that made or changed a contact
)

bulk_acts = Table(  # an act on many contacts: how far it is, and what it needs to go on after a crash
    "bulk_acts", metadata, _id(), _project(index=True),
    Column("act", String(12), nullable=False),  # subscribe | unsubscribe | delete | tag | untag | strip
    Column("state", String(12), nullable=False),  # running | completed | failed
    Column("wanted", Json, nullable=False),  # which contacts: ids, a segment, a property, or a filter and whom to leave out
    Column("reached", Id, nullable=False),  # the last contact that is done
    Column("total", Integer, nullable=False),
    Column("done", Integer, nullable=False),
    Column("touched_at", Float, nullable=False),  # the last time somebody worked on it
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("seen", Integer, nullable=False, server_default="0"),  # contacts that it came to, changed or not
)

TABLES = (contacts, contact_properties, contact_history, optouts, audiences, audience_members, segments, segment_members, topics, subscriptions, activity,
          imports, import_errors, import_changes, memberships, segment_days, segment_sizes, changes, followers, bulk_acts, signup_forms)
