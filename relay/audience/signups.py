"""Signups: what a visitor gave a form becomes a contact, at once or when the address has confirmed it (double opt-in).

    submit ─► is it this form's, and a person's? ─┬─► contact, segment
                                                  └─► letter with a link ─► confirm ─► contact, segment, topic, consent with its evidence

Anybody can submit anybody's address. So a submission alone lifts no unsubscribe and no topic that was left; a confirmation does, since it proves the address;
neither lifts a bounce, a complaint or a manual suppression. What was submitted waits in the link itself, signed, for WAITS: who never confirms leaves nothing
here. The answer is the same whether the address is known or not, and whether it may be written to or not. What fills the TRAP is no person: it is told that all
is well, and nothing happens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from relay import consent, log
from relay.audience import contacts, letters, membership, segments, values
from relay.audience.contacts import By, Changed
from relay.audience.letters import Letter
from relay.clock import iso
from relay.consent import Act
from relay.errors import Defer, Invalid, NotFound, RelayError
from relay.mail import mime
from relay.mail.ids import Maker
from relay.mail.message import MARKETING, Principal, Wishes
from relay.mail.reply import Reply
from relay.mail.tokens import ID, SIGNUP, pack, unpack
from relay.metrics import counter
from relay.policy import Sender, Services, owner
from relay.store import suppressions
from relay.store.audience import contacts as people
from relay.store.audience import forms, history, properties, topics
from relay.store.audience import segments as stored
from relay.store.audience.contacts import Contact
from relay.store.audience.forms import Form
from relay.store.engine import Store
from relay.submission import Door
from relay.words import WORDS

TRAP = "fax_number"  # a field that people do not see
NAMES = ("email", "first_name", "last_name")  # fields of a contact itself
VALUE = 1_000  # characters of one field
SIZE = 2_000  # octets of all, so that a link with them is no longer than mail programs take
WAITS = 7 * 86_400.0  # seconds that a confirmation link works
HOUR, DAY = 3_600.0, 86_400.0
CALLER, FORM, LETTERS = 30, 5_000, 3  # submissions an hour from one IP address and to one form; letters a day to one address
SOURCE = "form"

LOG = log.get("signups")
SIGNUPS = counter("signups_total", "Submissions of signup forms, by what came of them", "result")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the visitor is told: `message` "" = the page's own words; `pending` while a confirmation is asked for."""

    form: Form
    pending: bool

    @property
    def message(self) -> str:
        return "" if self.pending else self.form.success_message


@dataclass(frozen=True, slots=True)
class Pending:
    """What a confirmation link carries."""

    form: Form
    given: dict[str, Any]
    asked: dict[str, Any]  # when, and from where


@dataclass(frozen=True, slots=True)
class Signups:
    """What takes submissions.

    door      gives the door of now
    occurred  tells the webhooks task that there are events
    """

    store: Store
    services: Services
    maker: Maker
    door: Callable[[], Door]
    occurred: Callable[[], None]

    async def submit(self, number: int, given: Mapping[str, Any], act: Act) -> Answer:
        """Raises NotFound, Invalid naming the field, Defer where too many come."""
        form = await self.store.read(forms.living, number)
        await self._room(form, act)
        if given.get(TRAP):
            SIGNUPS.labels("trapped").inc()
            return Answer(form, form.double_opt_in)
        understood = await self.store.read(_understood, form, given)
        if form.double_opt_in:
            await self._ask(form, understood, act)
            return Answer(form, True)
        await self.store.write(enrol, form.id, understood, self._by(form, act, {}), False)
        SIGNUPS.labels("signed_up").inc()
        self.occurred()
        return Answer(form, False)

    async def pending(self, token: str) -> Pending:
        """What the link asks about; raises NotFound, also when the form takes nobody any more, and Expired."""
        data = self.services.tokens.read(SIGNUP, token)
        if len(data) < ID:
            raise NotFound("this link is not one of ours")
        number, rest = unpack(data)
        form = await self.store.read(forms.living, number)
        given, asked = orjson.loads(rest)
        return Pending(form, given, asked)

    async def confirm(self, token: str, act: Act) -> Pending:
        """The person has confirmed; a second time changes nothing. Raises as `pending`."""
        found = await self.pending(token)
        await self.store.write(enrol, found.form.id, found.given, self._by(found.form, act, {"double_opt_in": True, **found.asked}), True)
        SIGNUPS.labels("confirmed").inc()
        self.occurred()
        return found

    async def owns(self, project: int, spec: str) -> bool:
        """Whether the project may write from this address."""
        if not self.services.settings.domains.require_verified:
            return True
        found = owner(await self.services.domains.of(project), spec.rpartition("@")[2])
        return found is not None and found.verified

    async def _room(self, form: Form, act: Act) -> None:
        take = self.services.counters.take
        wait = await take(f"signup:{form.id}:{act.client}", CALLER, HOUR) or await take(f"signup:{form.id}", FORM, HOUR)
        if wait:
            SIGNUPS.labels("limited").inc()
            raise Defer(Reply(452, "4.5.3", "too many submissions, try again later"), wait, "rate_limit_exceeded")

    def _by(self, form: Form, act: Act, more: Mapping[str, Any]) -> By:
        seen = {"form": form.public_id, "client": act.client, "agent": act.agent[:200], **more}
        told = Act(SOURCE, act.client, act.agent, act.at, {name: value for name, value in seen.items() if value})
        return By(form.project_id, told, self.maker, self.services.tokens.secrets)  # type: ignore[attr-defined]

    async def _ask(self, form: Form, given: dict[str, Any], act: Act) -> None:
        """Send the letter, to whom may be written to. An earlier unsubscribe is no hindrance: this letter is how it is taken back."""
        key = values.key(given["email"])
        entries = await self.store.read(suppressions.of, form.project_id, key)
        whose = hashlib.sha256(key.encode()).hexdigest()[:32]
        if any(entry.reason != consent.LEFT and entry.scope == suppressions.ALL for entry in entries):
            SIGNUPS.labels("suppressed").inc()
        elif await self.services.counters.take(f"signup:letter:{form.project_id}:{whose}", LETTERS, DAY):
            SIGNUPS.labels("asked_often").inc()
        else:
            await self._letter(form, given, key, act)
            SIGNUPS.labels("asked").inc()

    async def _letter(self, form: Form, given: dict[str, Any], key: str, act: Act) -> None:
        box = mime.mailboxes(form.sender, "from")[0]
        if not await self.owns(form.project_id, box.address):
            LOG.warning("a form's letter cannot be sent: its from is no verified domain of the project", form=form.public_id)
            raise Defer(Reply(451, "4.3.0", "this form cannot be used just now"), HOUR)
        sender = await self.services.senders.of(form.project_id, key) if self.services.senders else Sender()
        said = WORDS.get(sender.language.partition("-")[0].lower(), WORDS["en"])
        carried = orjson.dumps([given, {"asked_at": iso(act.at), "asked_from": act.client}])
        token = self.services.tokens.make(SIGNUP, pack(form.id, carried), act.at + WAITS)
        link = f"{self.services.settings.http.public_url.rstrip('/')}/f/confirm/{token}"
        letter = Letter(said["confirm_subject"], said["confirm_text"], link, said["confirm"], said["unasked"])
        who = Principal("system", form.project_id, name=form.public_id)  # asked for by no key of the project; the checks of a key's mail are made above
        content = letters.octets(letter, sender, box.address, given["email"])
        try:
            await letters.post(self.door(), who, self.maker, box.address, given["email"], content, Wishes(opens=False, clicks=False))
        except RelayError as error:
            LOG.warning("a form's letter was not sent", form=form.public_id, error=error.text)
            raise Defer(Reply(451, "4.3.0", "this form cannot be used just now")) from None


def enrol(conn: Any, number: int, given: Mapping[str, Any], by: By, proven: bool) -> Changed:
    """The contact, changed or made, on the form's list and with its consent; raises NotFound when the form takes nobody any more, Invalid."""
    form = forms.living(conn, number)
    known = people.by_key(conn, by.project, values.key(given["email"])) if proven else None
    if known is not None and _stands(conn, known, by.act):
        return Changed(known)
    forms.count(conn, number)
    changed = contacts.upsert(conn, given, by)
    contact = changed.contact
    if form.segment_id is not None and stored.get(conn, form.project_id, form.segment_id).rules is None:
        segments.put(conn, form.project_id, form.segment_id, [contact.id], by.act.at)
    if proven:
        history.relent(conn, by.project, by.hashes(contact.key), MARKETING)
        if form.topic_id is not None:
            history.relent(conn, by.project, by.hashes(contact.key), topics.scope(form.topic_id))
        consent.confirmed(conn, contact, form.topic_id, by.act)
    membership.follow(conn, [contact.id], by.act.at)
    return changed


def _stands(conn: Any, contact: Contact, act: Act) -> bool:
    """Whether this very submission was confirmed before, and nothing that the contact said since speaks against it."""
    said = history.last(conn, contact.id, ("subscribed", "unsubscribed", "topic_unsubscribed", "snoozed"))
    return said is not None and said.act == "subscribed" and all(said.evidence.get(name) == act.more.get(name) for name in ("form", "asked_at"))


def _understood(conn: Any, form: Form, given: Mapping[str, Any]) -> dict[str, Any]:
    """The FIELDS of a contact that a submission means; what the form does not ask for is ignored. Raises Invalid."""
    definitions = properties.of(conn, form.project_id)
    values.key(given.get("email"))
    asked = {field["name"]: field for field in form.fields}
    found = {name: _value(name, given.get(name), asked.get(name, {})) for name in (*NAMES, *asked)}
    own = {name: values.text(value, name) if name != "email" else value for name, value in found.items() if name in NAMES and value is not None}
    rest = {name: values.cell(value, definitions.get(name), name) if isinstance(value, str) else value
            for name, value in found.items() if name not in NAMES and value is not None}
    told = {**own, "properties": values.properties(rest, definitions)}
    if form.double_opt_in:  # what no new contact can lack is said now, not to who confirms; whether this one is new is nobody's business
        values.complete(told["properties"], definitions)
    if len(orjson.dumps(told)) > SIZE:
        raise Invalid("body", f"a submission has at most {SIZE} octets")
    return told


def _value(name: str, value: Any, field: Mapping[str, Any]) -> Any:
    """One field, None when it is empty; raises Invalid."""
    if field.get("type") == "checkbox":
        value = value is True or (isinstance(value, str) and value.lower() in ("on", "true", "1", "yes"))
    if isinstance(value, str):
        value = value.strip() or None
    if field.get("required") and value in (None, False):
        raise Invalid(name, f"{name} is required")
    if value is None or isinstance(value, (bool, int, float)):
        return value if name not in NAMES or value is None else str(value)
    if not isinstance(value, str) or len(value) > VALUE or "\0" in value:
        raise Invalid(name, f"{name} is a text of at most {VALUE} characters")
    if field.get("type") == "select" and value not in field.get("options", ()):
        raise Invalid(name, f"{name} is one of: {', '.join(field.get('options', ()))}")
    return value
