"""Mail over SMTP that names a template: `X-Relay-Template-Id: tpl_...`, with `X-Relay-Variables: {"name": "Alice"}`.

Subject and body become the template's, rendered; every other field stays as it came. A template that is not there, not published or cannot be rendered
refuses the message, since the sender cannot have meant what stands in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay import templates
from relay.errors import Invalid, NotFound, Refuse
from relay.mail import ids, mime, words
from relay.mail.header import Header
from relay.mail.message import Wishes
from relay.mail.reply import Reply
from relay.store import templates as stored
from relay.store.engine import Store

REPLACED = (b"subject", b"mime-version", b"content-type", b"content-transfer-encoding", b"content-disposition", b"content-language", b"content-id")


@dataclass(frozen=True, slots=True)
class Filler:
    """What the door asks for a message that names a template."""

    store: Store

    async def fill(self, project: int, fields: Header, wishes: Wishes) -> tuple[Header, bytes]:
        """Header and body with the template's texts; raises Refuse saying what is wrong with it."""
        number = ids.internal(wishes.template, "tpl")
        try:
            if number is None:
                raise NotFound("Template not found")
            source = await self.store.read(stored.published, project, number)
            texts = templates.render(source, wishes.variables or {}, templates.LATER)
            subject = words.unstructured("Subject", texts.subject)
        except (NotFound, Invalid, Refuse) as error:
            raise Refuse(Reply(550, "5.6.0", f"X-Relay-Template-Id {wishes.template}: {error.text}"), error.code) from None
        part = mime.texts(texts)
        described, _ = mime.header.split(b"MIME-Version: 1.0\r\n" + part.head + b"\r\n")
        return fields.without(*REPLACED).append(subject, *described.fields), part.body
