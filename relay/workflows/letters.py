"""The step that sends an email: a copy for one contact, through the same door as everything, judged but not yet kept.

Who keeps it is relay.workflows.advance, in the transaction that takes the run past the step. What is for now (a limit, a domain that is not verified, a
template that is being edited) is tried again for LASTS; what is for ever ends the run, and its history has the words of who refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relay import copies
from relay.copies import Letter
from relay.errors import Defer, Invalid, NotFound, Refuse, StoreError
from relay.mail import ids
from relay.mail.message import MARKETING, TRANSACTIONAL
from relay.mail.mime import Texts
from relay.store import templates as stored
from relay.store.audience import topics
from relay.store.audience.contacts import Contact
from relay.store.templates import Template
from relay.store.workflows.runs import Run
from relay.store.workflows.workflows import Workflow
from relay.workflows.advance import SENT, SKIPPED, Done, context
from relay.workflows.steps import Email

if TYPE_CHECKING:
    from relay.submission import Door

LASTS = 86_400.0  # seconds that an email is tried again which could not be sent for now
PAUSES = (10.0, 60.0, 300.0, 900.0, 3_600.0)  # seconds between the tries; the last one again and again
CURABLE = frozenset({"domain_not_verified", "template_not_published"})  # refusals that an owner may mend


@dataclass(frozen=True, slots=True)
class Work:
    """A run before a step that needs the engine."""

    run: Run
    flow: Workflow
    step: Any
    contact: Contact
    template: Template | None = None
    fault: Refuse | NotFound | None = None  # why there is no template


def template(conn: Any, project: int, step: Any) -> tuple[Template | None, Refuse | NotFound | None]:
    """The template of a step with the texts that sends use, or why there is none."""
    if not isinstance(step, Email) or step.template is None:
        return None, None
    try:
        return stored.sent(conn, project, step.template), None
    except (Refuse, NotFound) as error:
        return None, error


def letter(flow: Workflow, step: Email, by: Template | None) -> Letter:
    """What the step says; raises Invalid where nothing says from whom.

    It is marketing unless the step says `transactional: true`; in the Plunk dialect the template decides.
    """
    texts, sender, reply_to = step.texts, step.sender, step.reply_to
    if by is not None:
        texts = Texts(texts.subject or by.subject, by.html, by.text)
        sender, reply_to = sender or by.sender, reply_to or ((by.reply_to,) if by.reply_to else ())
    if not sender:
        raise Invalid("from", "from is required: the step or its template says who sends it")
    plain = step.transactional if step.transactional is not None else flow.dialect == "plunk" and by is not None and by.stream == TRANSACTIONAL
    return Letter(sender, texts, reply_to, topics.public(step.topic) if step.topic is not None else "", TRANSACTIONAL if plain else MARKETING,
                  everything=flow.dialect != "plunk", tags=(flow.public_id, *step.tags))


async def prepared(door: Door, work: Work, number: int, now: float) -> Done:
    """What became of the copy: judged, with its message, or why there is none. Raises StoreError.

    number  an id for the recipient
    """
    step, run = work.step, work.run
    try:
        if work.fault is not None:
            raise work.fault
        said = letter(work.flow, step, work.template)
        octets = copies.build(said, work.contact.email, {**context(work.flow, run, work.contact), **step.variables})
        recipient = copies.reader(number, work.contact)
        message = await copies.judge(door, work.flow.principal, said, recipient, octets, "workflow", asked=True)
    except StoreError:
        raise
    except Defer as later:
        return again(run, later.text, now, later.retry_after)
    except (Refuse, Invalid, NotFound) as error:
        return again(run, error.text, now) if error.code in CURABLE else Done("failed", {"reason": error.text}, ends=True)
    if not message.recipients:
        await door.let_go((message,))
        return Done(SKIPPED, {"reason": message.dropped[0][1].text if message.dropped else "suppressed"})
    return Done(SENT, {"email_id": ids.public("em", message.id), "stream": said.stream}, message=message, stream=said.stream, topic=step.topic)


def again(run: Run, reason: str, now: float, wait: float = 0.0) -> Done:
    """Another try later; after LASTS the run has failed."""
    if now - run.arrived_at >= LASTS:
        return Done("failed", {"reason": reason}, ends=True)
    return Done(detail={"reason": reason}, later=now + max(PAUSES[min(run.attempts, len(PAUSES) - 1)], min(wait, PAUSES[-1])))
