"""Letters of ours to one person, with one link: a fresh unsubscribe link, the question whether they did sign up.

They are the project's mail, from one of its own addresses, and go through the door as any other: suppression, limits and the project's domains count.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from relay import copies
from relay.mail import mailbox, mime
from relay.mail.ids import Maker
from relay.mail.message import Envelope, Origin, Principal, Wishes
from relay.mail.mime import Draft
from relay.policy import Sender
from relay.submission import Door


@dataclass(frozen=True, slots=True)
class Letter:
    """What is said. `url` may be {{unsubscribe_url}}, which the copy chain makes."""

    subject: str
    before: str
    url: str
    label: str
    after: str


def octets(letter: Letter, sender: Sender, author: str, to: str) -> bytes:
    """The whole message, in HTML and text, from the project by the address `author`."""
    lines = [line for line in (sender.title, *sender.postal_address.splitlines()) if line]
    text = "\n\n".join((letter.before, letter.url, letter.after, "\n".join(lines))).rstrip() + "\n"
    link = f'<a href="{escape(letter.url)}" data-relay-track="off">{escape(letter.label)}</a>'
    signed = "<br>".join(escape(line) for line in lines)
    html = f"<p>{escape(letter.before)}</p><p>{link}</p><p>{escape(letter.after)}</p><p>{signed}</p>"
    headers = {"Auto-Submitted": "auto-replied", "X-Auto-Response-Suppress": "All"}  # nobody's machine need answer it (RFC 3834 §5)
    return mime.build(Draft(mailbox.text(" ".join(sender.title.split()), author), (to,), letter.subject, html, text, headers=headers))


async def post(door: Door, who: Principal, maker: Maker, author: str, to: str, content: bytes, wishes: Wishes) -> bool:
    """Whether it is on its way; False when the policies let nobody have it. Raises what the door raises."""
    recipient = copies.recipient(maker.next(), to)
    utf8 = not (author.isascii() and recipient.address.isascii())
    envelope = Envelope(author, (recipient,), smtputf8=utf8)
    admitted = await door.judge(who, envelope, content, Origin("http"), wishes)
    if not any(message.recipients for message in admitted):
        await door.let_go(admitted)
        return False
    await door.keep(admitted)
    return True
