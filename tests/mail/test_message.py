"""The message: frozen, whole, and shut once it is signed."""

import pytest

from relay.mail.header import make, split
from relay.mail.message import replace
from relay.mail.reply import Reply
from tests.support.services import message

CONTENT = b"From: joe@example.com\r\nSubject: x\r\n\r\nhello\r\n"


def test_what_came_goes():
    given = message(CONTENT)
    assert given.octets() == CONTENT
    assert given.size == len(CONTENT)


def test_a_dropped_recipient_is_named_with_the_reason():
    given = message(CONTENT, "a@example.org", "b@example.org")
    kept = given.drop(given.recipients[0], Reply(550, "5.7.1", "no"))
    assert [r.address for r in kept.recipients] == ["b@example.org"]
    assert [(r.address, reply.text) for r, reply in kept.dropped] == [("a@example.org", "no")]
    assert len(given.recipients) == 2


def test_nothing_changes_in_place():
    given = message(CONTENT)
    with pytest.raises(AttributeError):
        given.body = b""
    changed = given.with_header(given.header.prepend(make("X", "1"))).with_body(b"bye\r\n").noted("test", "changed", "why")
    assert changed.octets() == b"X: 1\r\n" + CONTENT.replace(b"hello", b"bye")
    assert (changed.trace[0].policy, given.trace, given.octets()) == ("test", (), CONTENT)


@pytest.mark.parametrize("edit", [lambda m: m.with_header(m.header), lambda m: m.with_body(b"")], ids=["header", "body"])
def test_a_signed_message_is_shut(edit):
    with pytest.raises(RuntimeError, match="signed"):
        edit(replace(message(CONTENT), sealed=True))


def test_a_message_without_header_is_all_body():
    header, body = split(b"hello\r\n")
    assert (header.fields, body) == ((), b"hello\r\n")
