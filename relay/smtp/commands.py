"""The commands, one row each: what it does and when it may come (RFC 5321 §4.1; RFC 3207, 4954, 6409, 3461 where said).

A function here takes the engine and the argument, and gives the reply. What must wait (the desk, a certificate, a delay) is left with the engine, with
the function that goes on afterwards.
"""

from __future__ import annotations

from functools import lru_cache, partial
from time import monotonic
from typing import Any

from relay.errors import Refuse
from relay.mail.message import Envelope, Principal, Recipient
from relay.mail.reply import Reply
from relay.metrics import SMTP_AUTH
from relay.smtp import auth, syntax
from relay.smtp.engine import JUNK, READY, RECIPIENTS, SENDER, TLS, Engine, Terms, Verb, lines, not_a_line, unfinished
from relay.smtp.transfer import bdat, data

OK = Reply(250, "2.0.0", "ok")
SENDER_OK = Reply(250, "2.1.0", "sender ok")
RECIPIENT_OK = Reply(250, "2.1.5", "recipient ok")
BYE = Reply(221, "2.0.0", "bye")
SYNCHRONISE = Reply(554, "5.5.0", "commands were sent before EHLO was answered")
NO_NAME = Reply(501, "5.5.4", "syntax: EHLO name")
NO_ARGUMENT = Reply(501, "5.5.4", "no argument is allowed")
AUTH_FIRST = Reply(530, "5.7.0", "authentication required: use AUTH with an API key as password")
TLS_FIRST = Reply(530, "5.7.0", "authentication required: use STARTTLS first, then AUTH with an API key as password")
TOO_LARGE = Reply(552, "5.3.4", "message exceeds the maximum size")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "too many recipients, send the others in another transaction")
VERIFY = Reply(252, "2.1.5", "cannot verify the user, but will take mail for it and try to deliver")
NOT_IMPLEMENTED = Reply(502, "5.5.1", "command not implemented")
NOT_MAIL = Reply(554, "5.5.0", "this is a mail server")
TOO_MUCH_JUNK = Reply(500, "5.5.0", "too many commands that send nothing")
TLS_READY = Reply(220, "2.0.0", "ready to start TLS")
TLS_ALREADY = Reply(503, "5.5.1", "TLS is active already")
TLS_NOT_HERE = Reply(502, "5.5.1", "STARTTLS is not offered here: no certificate")
AUTH_NOT_HERE = Reply(502, "5.5.1", "AUTH is not offered here")
AUTH_ALREADY = Reply(503, "5.5.1", "already authenticated")
AUTH_IN_CLEAR = Reply(538, "5.7.11", "encryption required: use STARTTLS first")
NO_TLS = "and this relay has no certificate: set smtp.tls_cert, or smtp.plaintext_auth for your network, on the relay"
NO_TLS_TO_AUTH = Reply(530, "5.7.0", f"authentication required, which needs TLS, {NO_TLS}")
AUTH_WITHOUT_TLS = Reply(538, "5.7.11", f"encryption required, {NO_TLS}")
AUTH_UNKNOWN = Reply(504, "5.5.4", "mechanism not supported, use PLAIN or LOGIN")
AUTH_CANCELLED = Reply(501, "5.7.0", "authentication cancelled")
AUTH_OK = Reply(235, "2.7.0", "authentication succeeded")
AUTH_FAILED = Reply(535, "5.7.8", "authentication failed: the password must be a valid API key")
AUTH_LOCKED = Reply(421, "4.7.0", "too many failed authentications, try again later")
AUTH_TOO_LONG = Reply(500, "5.5.6", "authentication line too long")
AUTH_NOT_NOW = Reply(454, "4.7.0", "authentication is not possible now, try again later")


def helo(engine: Engine, argument: str) -> Reply | None:
    return _greet(engine, argument, False)


def ehlo(engine: Engine, argument: str) -> Reply | None:
    return _greet(engine, argument, True)


def _greet(engine: Engine, name: str, extended: bool) -> Reply | None:
    """The client introduces itself; an open transaction ends (RFC 5321 §4.1.4). Nobody may talk on before the answer (RFC 2920 §3.1)."""
    if engine.more:
        engine.rejected("connect", SYNCHRONISE)
        engine.leave(SYNCHRONISE)
        return None
    if not syntax.helo(name):
        return NO_NAME
    session = engine.session
    session.helo, session.extended = name, extended
    engine.state = READY
    engine.reset()
    clear = session.tls == ""
    login = engine.terms.login and (not clear or session.plaintext_auth) and session.principal is None
    return extensions(engine.terms, engine.terms.starttls and clear, login) if extended else _name(engine.terms)


@lru_cache(64)
def extensions(terms: Terms, starttls: bool, login: bool) -> Reply:
    """The answer to EHLO."""
    lines = [terms.hostname, "PIPELINING", f"SIZE {terms.max_size}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "CHUNKING", "DSN"]
    if login:
        lines.append("AUTH PLAIN LOGIN")
    if starttls:
        lines.append("STARTTLS")
    return Reply(250, "", "\n".join(lines))


@lru_cache(64)
def _name(terms: Terms) -> Reply:
    """The answer to HELO."""
    return Reply(250, "", terms.hostname)


def mail(engine: Engine, argument: str) -> Reply | None:
    session, terms = engine.session, engine.terms
    if terms.submission and not session.known:
        return AUTH_FIRST if session.tls or session.plaintext_auth or not terms.login else TLS_FIRST if terms.starttls else NO_TLS_TO_AUTH
    sender, rest = syntax.reverse_path(argument)
    given = syntax.parameters(rest, syntax.MAIL) if rest else {}
    given.pop("auth", None)  # AUTH= is for relays that trust their client's word (RFC 4954 §5); we have our own
    syntax.check_sender(sender, given.get("smtputf8", False))
    envelope = Envelope(sender, **given)
    if envelope.size > terms.max_size:
        engine.rejected("mail", TOO_LARGE)
        return TOO_LARGE
    return engine.ask(engine.desk.sender(session, envelope), partial(_mail_answered, envelope))


def _mail_answered(envelope: Envelope, engine: Engine, refusal: Reply | None) -> Reply:
    if refusal is not None:
        engine.rejected("mail", refusal)
        return refusal
    engine.envelope = envelope
    engine.begun = monotonic()
    engine.state = SENDER
    return SENDER_OK


def rcpt(engine: Engine, argument: str) -> Reply | None:
    terms, envelope = engine.terms, engine.envelope
    engine.refused = True  # until it is accepted
    address, rest = syntax.forward_path(argument)
    given = syntax.parameters(rest, syntax.RCPT) if rest else {}
    if len(engine.recipients) >= (terms.recipients if engine.session.known else terms.recipients_unknown):
        engine.rejected("rcpt", TOO_MANY_RECIPIENTS)
        return TOO_MANY_RECIPIENTS
    if address.lower() == "postmaster":  # RFC 5321 §4.1.1.3: always there, without a domain
        address = f"postmaster@{terms.hostname}"
    key, domain = syntax.recipient(address, envelope.smtputf8)
    recipient = Recipient(terms.ids.next(), address, key, domain, **given)
    return engine.ask(engine.desk.recipient(engine.session, envelope, recipient), partial(_rcpt_answered, recipient))


def _rcpt_answered(recipient: Recipient, engine: Engine, refusal: Reply | None) -> Reply:
    if refusal is not None:
        engine.rejected("rcpt", refusal)
        return refusal
    engine.recipients.append(recipient)
    engine.refused = False
    engine.state = RECIPIENTS
    return RECIPIENT_OK


def rset(engine: Engine, argument: str) -> Reply:
    if argument:
        return NO_ARGUMENT
    engine.reset()
    return _idle(engine, OK)


def noop(engine: Engine, argument: str) -> Reply:
    return _idle(engine, OK)


def vrfy(engine: Engine, argument: str) -> Reply:
    return _idle(engine, VERIFY) if argument else Reply(501, "5.5.4", "syntax: VRFY address")


def help_(engine: Engine, argument: str) -> Reply:
    """What there is, or how to write one command."""
    verbs = engine.terms.verbs
    row = verbs.get(argument.upper())
    if row is not None and row.syntax:
        return _idle(engine, Reply(214, "2.0.0", row.syntax))
    return _idle(engine, Reply(214, "2.0.0", " ".join(name for name, row in verbs.items() if row.syntax)))


def quit_(engine: Engine, argument: str) -> Reply | None:
    if argument:
        return NO_ARGUMENT
    engine.leave(BYE)
    return None


def _idle(engine: Engine, reply: Reply) -> Reply:
    """A command that moves no mail: a few keep a connection alive, many are an attack."""
    engine.junk += 1
    return reply if engine.junk <= JUNK else TOO_MUCH_JUNK


def not_implemented(engine: Engine, argument: str) -> Reply:
    return NOT_IMPLEMENTED


def not_mail(engine: Engine, argument: str) -> None:
    """A browser or proxy that was talked into sending us its request (cross-protocol attacks)."""
    engine.leave(NOT_MAIL)


def starttls(engine: Engine, argument: str) -> Reply | None:
    """What is buffered after this line is thrown away: it came in the clear and must not count as said under TLS (RFC 3207 §4.2, CVE-2011-0411)."""
    if argument:
        return NO_ARGUMENT
    if engine.session.tls:
        return TLS_ALREADY
    if not engine.terms.starttls:
        return TLS_NOT_HERE
    engine.say(TLS_READY)
    engine.at = len(engine.data)
    engine.want = TLS
    return None


def auth_(engine: Engine, argument: str) -> Reply | None:
    """AUTH mechanism [initial-response] (RFC 4954 §4)."""
    session = engine.session
    if not engine.terms.login:
        return AUTH_NOT_HERE
    if session.principal is not None:
        return AUTH_ALREADY
    name, _, initial = argument.partition(" ")
    mechanism = auth.MECHANISMS.get(name.upper())
    if mechanism is None:
        return AUTH_UNKNOWN
    if not session.tls and not session.plaintext_auth:
        return AUTH_IN_CLEAR if engine.terms.starttls else AUTH_WITHOUT_TLS
    if not _shared(engine) and engine.terms.guard.locked(session.client):
        SMTP_AUTH.labels(name.upper(), "locked").inc()
        return engine.hold(auth.DELAY_MOST, lambda engine, _: AUTH_LOCKED)
    engine.login = name.upper(), mechanism, []
    initial = initial.strip(" ")
    return _respond(engine, initial) if initial else _next(engine)


def response(engine: Engine) -> bool:
    """Reader of a client's response to a challenge."""
    data, at = engine.data, engine.at
    end = data.find(b"\n", at)
    if end < 0:
        return unfinished(engine, AUTH_TOO_LONG)
    engine.at = end + 1
    engine.read_by(lines)
    if data[at:end].find(b"\r") != end - 1 - at:
        not_a_line(engine)
    elif end + 1 - at > auth.LINE:
        engine.say(AUTH_TOO_LONG)
    else:
        try:
            reply = _respond(engine, data[at:end - 1].decode("latin-1"))
        except Refuse as error:
            reply = error.reply
        if reply is not None:
            engine.say(reply)
    return True


def _respond(engine: Engine, text: str) -> Reply | None:
    if text == "*":
        return AUTH_CANCELLED
    engine.login[2].append(auth.decoded(text))
    return _next(engine)


def _next(engine: Engine) -> Reply | None:
    """Send the mechanism's next challenge, or ask the desk about the credential."""
    name, mechanism, responses = engine.login
    step = mechanism(responses)
    if isinstance(step, bytes):
        engine.out.append(auth.challenge(step))
        engine.read_by(response)
        return None
    engine.login = None
    return engine.ask(engine.desk.authenticate(engine.session, name, step.username, step.password), partial(_authenticated, name))


def _authenticated(name: str, engine: Engine, result: Principal | Reply | None) -> Reply | None:
    if isinstance(result, Principal):
        engine.terms.guard.succeeded(engine.session.client)
        engine.session.principal = result
        SMTP_AUTH.labels(name, "ok").inc()
        return AUTH_OK
    if isinstance(result, Reply):
        SMTP_AUTH.labels(name, "fault").inc()
        return AUTH_NOT_NOW
    guard, client = engine.terms.guard, engine.session.client
    SMTP_AUTH.labels(name, "failed").inc()
    locked = guard.failed(client) >= auth.FAILURES and not _shared(engine)
    return engine.hold(guard.delay(client), partial(_failed, AUTH_LOCKED if locked else AUTH_FAILED))


def _failed(reply: Reply, engine: Engine, _: Any) -> Reply:
    engine.rejected("auth", reply)
    return reply


def _shared(engine: Engine) -> bool:
    """Many apps may stand behind this address (a container gateway): one with a wrong key must not lock the others out."""
    return engine.session.trusted or engine.session.plaintext_auth


IN_TRANSACTION = SENDER | RECIPIENTS
VERBS = {
    "EHLO": Verb(ehlo, syntax="EHLO name"),
    "MAIL": Verb(mail, READY, 1_200, syntax="MAIL FROM:<address> [SIZE=n] [BODY=8BITMIME] [SMTPUTF8] [RET=FULL|HDRS] [ENVID=xtext] [AUTH=xtext]"),
    "RCPT": Verb(rcpt, IN_TRANSACTION, 1_100, syntax="RCPT TO:<address> [NOTIFY=...] [ORCPT=type;xtext]"),
    "DATA": Verb(data, IN_TRANSACTION, syntax="DATA"),
    "QUIT": Verb(quit_, syntax="QUIT"),
    "RSET": Verb(rset, syntax="RSET"),
    "HELO": Verb(helo, syntax="HELO name"),
    "BDAT": Verb(bdat, syntax="BDAT size [LAST]"),
    "AUTH": Verb(auth_, READY, auth.LINE, AUTH_TOO_LONG, "AUTH PLAIN|LOGIN [initial-response]"),
    "STARTTLS": Verb(starttls, READY, syntax="STARTTLS"),
    "NOOP": Verb(noop, syntax="NOOP"),
    "VRFY": Verb(vrfy, syntax="VRFY address"),
    "HELP": Verb(help_, syntax="HELP [command]"),
    **dict.fromkeys(("EXPN", "ETRN", "TURN", "ATRN", "SEND", "SOML", "SAML", "XCLIENT", "XFORWARD"), Verb(not_implemented)),
    **dict.fromkeys(("GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "HOST:"), Verb(not_mail, limit=auth.LINE)),
}
