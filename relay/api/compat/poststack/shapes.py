"""How rows of the native API look in the live dialect: camelCase, a numeric `id` beside `publicId`, and no word that the SDK's enumerations do not have.

A Shape is data; `of` applies it. A field is renamed by the rule (snake to camel) unless `names` says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic.alias_generators import to_camel

from relay.errors import Invalid
from relay.mail import ids, mailbox

Row = Mapping[str, Any]

WORDS: dict[str, dict[str, str]] = {  # native words that the SDK's enumerations do not have, and what stands for them
    "email status": {"scheduled": "queued", "suppressed": "failed", "cancelled": "failed"},
    "email event": {"scheduled": "queued", "suppressed": "failed", "cancelled": "failed"},
    "dns purpose": {"dkim_rotation": "dkim", "tracking": "return_path", "tls_reports": "dmarc"},
    "suppression reason": {"soft_bounce": "hard_bounce", "snooze": "unsubscribe"},
    "insight severity": {"high": "warning", "medium": "warning", "low": "info"},
    "broadcast status": {"scheduled": "queued", "paused": "sending", "failed": "cancelled", "testing": "sending"},
    "workflow trigger": {"contact.updated": "custom", "property.changed": "custom", "segment.entry": "custom", "segment.exit": "custom",
                         "schedule": "manual"},
}


@dataclass(frozen=True, slots=True)
class Shape:
    """One resource.

    prefix   what its public id begins with in this dialect, where that is not the native one
    names    live names that the rule does not give; "" leaves the field out
    words    fields whose values are of an enumeration: the field's native name, and its row of WORDS
    refs     fields that hold the id of something else, shown as a number
    fixed    live fields that Relay has one answer to
    """

    prefix: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    refs: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def of(self, row: Row) -> dict[str, Any]:
        out = dict(self.fixed)
        for name, value in row.items():
            live = self.names.get(name, to_camel(name))
            if name == "id":
                out |= {"id": number(value), "publicId": self._renamed(value)}
            elif name in self.words and value in (known := WORDS[self.words[name]]):
                out |= {live: known[value], to_camel(f"relay_{name}"): value}
            elif name in self.refs:
                out[live] = number(value)
            elif live:
                out[live] = value
        return out

    def _renamed(self, text: str) -> str:
        return f"{self.prefix}_{text.partition('_')[2]}" if self.prefix else text


def number(public_id: str | None) -> int | None:
    """The number in a public id. Beyond 2**53, where JavaScript rounds, `publicId` is what to keep."""
    return None if public_id is None else ids.internal(public_id)


def email(row: Row) -> dict[str, Any]:
    author = _author(str(row["from"]))
    out = _EMAIL.of({name: value for name, value in row.items() if name not in ("from", "events", "spam_score")})
    score = row.get("spam_score")
    out |= {"fromAddress": author.address or row["from"], "fromName": author.name or None, "spamScore": None if score is None else str(score)}
    return out | {"events": [event(each, out["id"]) for each in row["events"]]} if "events" in row else out


def _author(text: str) -> mailbox.Mailbox:
    try:
        return mailbox.mailboxes(text)[0]
    except (Invalid, IndexError):
        return mailbox.Mailbox("", text, "")


def event(row: Row, email_id: int | None = None) -> dict[str, Any]:
    """Both spellings of an event: the typed model's `type` and `timestamp`, and the row that live answers have."""
    kind = WORDS["email event"].get(row["type"], row["type"])
    rest = {name: value for name, value in row.items() if name not in ("type", "timestamp")}
    out = {"type": kind, "timestamp": row["timestamp"], "eventType": kind, "createdAt": row["timestamp"], "emailId": email_id, "metadata": rest,
           "isPrefetch": bool(rest.get("prefetch"))}
    return out if kind == row["type"] else {**out, "relayType": row["type"]}


def insight(row: Row) -> dict[str, Any]:
    return {**row, "code": row["type"], "severity": WORDS["insight severity"].get(row["severity"], "info"), "relaySeverity": row["severity"]}


def domain(row: Row) -> dict[str, Any]:
    return {**_DOMAIN.of(row), "dnsRecords": [_RECORD.of(each) for each in row["dns_records"]]}


def rotation(row: Row) -> dict[str, Any]:
    """The RSA record is the one that is named; its Ed25519 companion is in `pendingRecords`."""
    records = row["pending_records"]
    first = records[0] if records else {}
    return {**_ROTATION.of(row), "pendingRecords": [_RECORD.of(each) for each in records], "pendingPublicKey": first.get("value"),
            "pendingRecordName": first.get("name"), "pendingRecordValue": first.get("value"), "publishedAt": None, "activatesAfter": None}


def segment(row: Row) -> dict[str, Any]:
    out = SEGMENT.of(row)
    return {**out, "contacts": [CONTACT.of(each) for each in row["contacts"]]} if "contacts" in row else out


def broadcast(row: Row) -> dict[str, Any]:
    return {**BROADCAST.of(row), "segmentId": number(row.get("segment_id"))}


def subscriber(row: Row) -> dict[str, Any]:
    out = CONTACT.of({"id": row["contact_id"], **{name: value for name, value in row.items() if name != "contact_id"}})
    return {"contactId": out.pop("id"), "contactPublicId": out.pop("publicId"), **out, "subscribedAt": row.get("subscribed_at") or row["created_at"]}


def subscription(row: Row) -> dict[str, Any]:
    """A person's word on a topic; the platform gives it an id, which here is the topic's."""
    topic = {"id": number(row["topic"]["id"]), "publicId": row["topic"]["id"], "name": row["topic"]["name"]}
    return {"id": topic["id"], "topicId": number(row["topic_id"]), "contactId": number(row["contact_id"]), "subscribed": row["subscribed"],
            "updatedAt": row["updated_at"], "subscribedAt": row["updated_at"], "topic": topic}


def said(row: Row) -> bool:
    """Whether the contact said anything of a topic: who did not has no row in this dialect, and is subscribed."""
    return row["updated_at"] is not None


def validation(row: Row) -> dict[str, Any]:
    """Both forms that the platform has had: `checks`, and flat."""
    checks = row["checks"]
    return {**row, "syntaxValid": checks["syntax"], "mxValid": checks["mx"], "isDisposable": checks["disposable"], "isRole": checks["role"],
            "isFree": checks["free"]}


def graph(row: Row) -> dict[str, Any]:
    """Nodes and edges as they were put; their names are snake_case in this dialect too."""
    return {"nodes": [{name: value for name, value in node.items() if name != "counts"} for node in row["nodes"]], "edges": row["edges"]}


def same(row: Row) -> dict[str, Any]:
    return dict(row)


def camel(row: Row) -> dict[str, Any]:
    return {to_camel(name): value for name, value in row.items()}


_EMAIL = Shape(
    names={"to": "toAddresses", "cc": "ccAddresses", "bcc": "bccAddresses", "html": "htmlBody", "text": "textBody"}, words={"status": "email status"},
    fixed={"ccAddresses": None, "bccAddresses": None, "tags": None, "testMode": False, "scheduledAt": None, "sentAt": None})
_RECORD = Shape(words={"purpose": "dns purpose"})
_DOMAIN = Shape(fixed={"region": "eu-west-1", "catchAll": False, "tlsMode": "opportunistic", "streamPreference": "any"})
_ROTATION = Shape(names={"pending_records": ""}, refs=("domain_id",))
CONTACT = Shape(prefix="con", names={"last_active_at": "lastEngagedAt"})
WORKFLOW = Shape(words={"trigger_type": "workflow trigger"})
RUN = Shape(refs=("workflow_id", "contact_id"), names={"waiting": "", "trigger": "", "email": "", "version": ""})
SEGMENT = Shape(names={"contacts": ""})
TEMPLATE = Shape(names={"html": "htmlBody", "text": "textBody"})
WEBHOOK = Shape(names={"signing_secret": ""})
DELIVERY = Shape(refs=("webhook_id",))
REPORT = Shape(refs=("domain_id",))
KEY = Shape(refs=("domain_id",))
FORM = Shape(refs=("segment_id", "topic_id"))
TOPIC = Shape()
SUPPRESSION = Shape(words={"reason": "suppression reason"})
PROPERTY = Shape()
BROADCAST = Shape(
    names={"delivered": "deliveredCount", "opened": "openedCount", "clicked": "clickedCount", "bounced": "bouncedCount", "segment_id": "segmentPublicId",
           "topic_id": "topicPublicId"}, words={"status": "broadcast status"})
