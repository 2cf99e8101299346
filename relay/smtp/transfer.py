"""DATA and BDAT: how the octets of a message come in, and what becomes of them at the end (RFC 5321 §4.1.1.4, RFC 3030).

A message that will be refused is read to its end first, because its sender hears nothing before; only one that goes on far beyond every limit is cut off.
A BDAT that fails keeps discarding its octets, and those of later chunks, until RSET; the last chunk is checked exactly as DATA is, because what came
uncut may have to leave by DATA.
"""

from __future__ import annotations

import re
from time import monotonic

from relay.mail.message import Envelope
from relay.mail.reply import Reply
from relay.metrics import SMTP_COMMIT, SMTP_READ, SMTP_TRANSACTION
from relay.smtp.content import NO_ROOM, Content
from relay.smtp.engine import CHUNKS, MESSAGE, Engine, lines

DRAIN = 4  # times the maximum size: a refused message that is still coming ends the connection

GO_ON = Reply(354, "", "end data with <CRLF>.<CRLF>")
TOO_MUCH = Reply(421, "4.3.4", "the message goes on far beyond the maximum size, closing")
NO_ARGUMENT = Reply(501, "5.5.4", "DATA takes no argument")
NO_RECIPIENTS = Reply(503, "5.5.1", "send RCPT first")
NO_VALID_RECIPIENTS = Reply(554, "5.5.1", "no valid recipients")
NO_TRANSACTION = Reply(503, "5.5.1", "no transaction for this chunk, send RSET")
BAD_CHUNK = Reply(501, "5.5.4", "syntax: BDAT size [LAST]")

_CHUNK = re.compile(r"([0-9]{1,18})(?: +(LAST))?", re.IGNORECASE)


def data(engine: Engine, argument: str) -> Reply:
    """DATA: 354, or at once 452 when there is no room for the size that MAIL declared."""
    if argument:
        return NO_ARGUMENT
    if not engine.recipients:
        return NO_VALID_RECIPIENTS if engine.refused else NO_RECIPIENTS
    refusal = _open(engine)
    if refusal is not None:
        engine.reset()
        return refusal
    engine.read_by(dotted)
    return GO_ON


def bdat(engine: Engine, argument: str) -> Reply | None:
    """BDAT: reads the octets of the chunk whatever it answers, because they are on their way already."""
    found = _CHUNK.fullmatch(argument)
    if found is None:  # where the next command begins nobody can know
        engine.leave(BAD_CHUNK)
        return None
    size, last = int(found[1]), found[2] is not None
    if engine.content is None:
        refusal = _open(engine) if engine.recipients else NO_VALID_RECIPIENTS if engine.refused else NO_TRANSACTION
        if engine.content is None:
            engine.content = Content(engine.terms.max_size, engine.terms.budget)
        if refusal is not None:
            engine.content.refuse(refusal)
    if engine.recipients:
        engine.state = CHUNKS
    engine.chunk = size, last
    if size:
        engine.read_by(counted)
    else:
        _chunk_ends(engine, last)
    return None


def dotted(engine: Engine) -> bool:
    """Reader of DATA up to CRLF.CRLF."""
    content = engine.content
    end = content.until_dot(engine.data, engine.at)
    if end < 0:
        engine.at = len(engine.data)
        return _endless(engine, content)
    engine.at = end
    _complete(engine, True)
    return True


def counted(engine: Engine) -> bool:
    """Reader of the octets of a BDAT chunk (RFC 3030 §2)."""
    size, last = engine.chunk
    stop = min(engine.at + size, len(engine.data))
    size -= stop - engine.at
    engine.content.add(engine.data, engine.at, stop)
    engine.at = stop
    if size:
        engine.chunk = size, last
        return _endless(engine, engine.content)
    _chunk_ends(engine, last)
    return True


def _open(engine: Engine) -> Reply | None:
    """Begin to receive; a reply when there is no room for what MAIL declared. A client that nobody answers for gets room only as its octets come: five
    that declare much and send nothing would else keep everybody out."""
    engine.content = Content(engine.terms.max_size, engine.terms.budget)
    if engine.session.known and engine.envelope.size and not engine.content.reserve(engine.envelope.size):
        engine.rejected("data", NO_ROOM)
        return NO_ROOM
    return None


def _endless(engine: Engine, content: Content) -> bool:
    """False, for more octets; a client that has long been refused and still sends is sent away."""
    if content.refusal is not None and content.received > DRAIN * content.limit:
        engine.leave(TOO_MUCH)
    return False


def _chunk_ends(engine: Engine, last: bool) -> None:
    engine.read_by(lines)
    content = engine.content
    if last and engine.recipients:
        _complete(engine, False)
    elif content.refusal is None:
        engine.say(Reply(250, "2.0.0", "octets received"))
    elif engine.recipients:
        engine.say(content.refusal)
    else:  # there never was a transaction: nothing to remember until RSET
        refusal = content.refusal
        engine.content = None
        engine.say(refusal)


def _complete(engine: Engine, stuffed: bool) -> None:
    """All octets are here: refuse the message, or give it to the desk."""
    engine.read_by(lines)
    octets = engine.content.finish(stuffed)
    if type(octets) is Reply:
        engine.rejected("data", octets)
        engine.reset()
        engine.say(octets)
        return
    engine.dot = monotonic()
    SMTP_READ.observe(engine.dot - engine.content.begun)
    given = engine.envelope
    envelope = Envelope(given.sender, tuple(engine.recipients), given.body, given.smtputf8, given.ret, given.envid, given.size)
    engine.wait(MESSAGE, engine.desk.message(engine.session, envelope, octets), _committed)


def _committed(engine: Engine, reply: Reply) -> Reply:
    now = monotonic()
    SMTP_COMMIT.observe(now - engine.dot)
    SMTP_TRANSACTION.observe(now - engine.begun)
    engine.reset()
    if reply.positive:
        engine.errors = engine.junk = 0
    else:
        engine.rejected("data", reply)
    return reply


