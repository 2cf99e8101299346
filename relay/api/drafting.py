"""POST /inbound/{id}/draft-reply: a frame to write an answer in, with greeting, close and what is answered. Nothing is made up about what it should say."""

from __future__ import annotations

import asyncio
from html import escape
from typing import Any, Literal

from relay.api.answering import RE, author_of, marked, opened
from relay.api.core import Core, Input, Owner, resource
from relay.clock import iso
from relay.mail.quoting import stripped
from relay.mail.reading import Reading
from relay.policy import Sender
from relay.store.inbound.mail import Inbound

router = resource("Inbound")

QUOTED = 20_000  # characters of the text that are quoted
NAME = 100  # characters of a name in the greeting

FRAMES: dict[str, dict[str, tuple[str, str]]] = {  # language -> tone -> greeting (of a name, "" where it is unknown) and close
    "en": {"formal": ("Dear {}", "Kind regards"), "friendly": ("Hello {}", "Best wishes"), "casual": ("Hi {}", "Cheers")},
    "de": {"formal": ("Guten Tag {}", "Mit freundlichen Grüßen"), "friendly": ("Hallo {}", "Viele Grüße"), "casual": ("Hi {}", "Bis bald")},
    "fr": {"formal": ("Bonjour {}", "Cordialement"), "friendly": ("Bonjour {}", "Bien à vous"), "casual": ("Salut {}", "À bientôt")},
    "es": {"formal": ("Buenos días {}", "Atentamente"), "friendly": ("Hola {}", "Un saludo"), "casual": ("Hola {}", "Hasta pronto")},
    "da": {"formal": ("Goddag {}", "Med venlig hilsen"), "friendly": ("Hej {}", "Venlig hilsen"), "casual": ("Hej {}", "Vi ses")},
}


class DraftReplyInput(Input):
    """How the writer is addressed."""

    tone: Literal["formal", "friendly", "casual"] = "friendly"


@router.post("/inbound/{inbound_id}/draft-reply")
async def draft_reply_to_inbound(here: Core, who: Owner, inbound_id: str, given: DraftReplyInput | None = None) -> Any:
    """An answer begun, in the project's language, for a person or a program to fill in and send with /reply."""
    each, read = await opened(here, who, inbound_id)
    sender = await here.services.senders.of(who.project) if here.services.senders else Sender()
    tone = (given or DraftReplyInput()).tone
    written = await asyncio.to_thread(_drafted, each, read, sender, tone)
    return {"to": author_of(each, read), "subject": marked("Re: ", each.subject, RE), "tone": tone, **written}


def _drafted(each: Inbound, read: Reading, sender: Sender, tone: str) -> dict[str, str]:
    greeting, close = FRAMES.get(sender.language.partition("-")[0].lower(), FRAMES["en"])[tone]
    hello = f"{greeting.format(_name(each.from_name))},".replace(" ,", ",")
    whose = f"{each.from_name or each.from_address}, {iso(each.created_at)}:"
    lines = stripped(read.text)[:QUOTED].splitlines()
    end = [f"{close},", *([sender.title] if sender.title else [])]
    text = "\n".join((hello, "", "", "", *end, "", whose, *(f"> {line}".rstrip() for line in lines)))
    html = (f"<p>{escape(hello)}</p><p><br></p><p>{'<br>'.join(map(escape, end))}</p>"
            f"<p>{escape(whose)}</p><blockquote>{'<br>'.join(map(escape, lines))}</blockquote>")
    return {"text": text, "html": html}


def _name(name: str) -> str:
    """What a name is greeted by: on one line, without a company after a comma."""
    return " ".join(name.split()).partition(",")[0][:NAME]
