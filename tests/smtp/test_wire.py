"""Content and commands as they leave: dots stuffed, nothing bare, nothing smuggled."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Invalid
from relay.smtp import wire

LINES = st.lists(st.binary(max_size=40).map(lambda line: line.translate(None, b"\r\n\0")) | st.sampled_from([b".", b"..", b""]))


@pytest.mark.parametrize(("content", "expected"), [
    (b"a\r\n", b"a\r\n.\r\n"), (b".a\r\n", b"..a\r\n.\r\n"), (b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n.\r\n"), (b".\r\n", b"..\r\n.\r\n"),
    (b"a", b"a\r\n.\r\n"), (b"", b".\r\n"), (b"a.b\r\nc.\r\n", b"a.b\r\nc.\r\n.\r\n"), (b"\r\n.", b"\r\n..\r\n.\r\n"),
])
def test_dot_stuffing(content, expected):
    assert b"".join(wire.pieces(content)) == expected


@given(LINES)
def test_what_a_receiver_reads_is_what_was_sent(lines):
    content = b"".join(line + b"\r\n" for line in lines)
    sent = b"".join(wire.pieces(content))
    assert wire.unstuffed(sent) == content
    assert sent.endswith(b".\r\n")
    assert b"\r\n.\r\n" not in sent[:-3] or sent.index(b"\r\n.\r\n") == len(sent) - 5, "the only end is the end"


@given(LINES, st.integers(3, 30))
def test_pieces_are_cut_anywhere_and_join_to_the_same(lines, size):
    content = b"".join(line + b"\r\n" for line in lines)
    whole = b"".join(wire.pieces(content))
    cut = list(wire.pieces(content, size))
    assert b"".join(cut) == whole
    assert all(len(piece) <= 2 * size + 5 for piece in cut)


@given(st.lists(st.sampled_from([b"a", b".", b".b", b""]), max_size=9))
def test_a_body_that_stands_apart_is_sent_as_behind_its_header(lines):
    head, body = b"Subject: x\r\n\r\n", b"".join(line + b"\r\n" for line in lines)
    assert b"".join(wire.parted(head, body)) == b"".join(wire.pieces(head + body))


@given(st.binary())
def test_any_octets_are_sent_safely_or_refused(content):
    try:
        sent = b"".join(wire.pieces(content))
    except Invalid:
        return
    assert sent.count(b"\r") == sent.count(b"\n") == sent.count(b"\r\n")
    assert b"\0" not in sent


@pytest.mark.parametrize("content", [b"a\nb\r\n", b"a\rb\r\n", b"a\0b\r\n", b"a\r\n.\r\r\n", b"a\n.\nQUIT\r\n", b"a\r\n\n.\r\n", b"a\r\n\r.\r\n", b"a\r",
                                     b"\n"])
def test_bare_line_ends_and_nul_never_leave(content):
    with pytest.raises(Invalid):
        list(wire.pieces(content))


def test_a_bare_line_end_deep_in_a_large_message_stops_before_the_final_dot():
    content = b"x" * 78 + b"\r\n"
    large = content * (wire.PIECE // 40) + b"bad\nline\r\n"
    sent = []
    with pytest.raises(Invalid) as caught:
        sent.extend(wire.pieces(large))
    assert caught.value.reply.permanent
    assert not any(piece.endswith(b"\r\n.\r\n") for piece in sent)


@pytest.mark.parametrize("address", ["a@b\r\nDATA", "a@b> SIZE=1", "a b@c", "<a@b>", "a\0@b", "a@b\x7f", "a\x85@b", "\udcff@b", '"a\r\n"@b'])
def test_an_address_cannot_leave_its_command(address):
    with pytest.raises(Invalid) as caught:
        wire.rcpt(address)
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (553, "5.1.3")


@pytest.mark.parametrize(("made", "expected"), [
    (wire.mail(""), b"MAIL FROM:<>\r\n"), (wire.mail("a@b.c", " SIZE=5"), b"MAIL FROM:<a@b.c> SIZE=5\r\n"),
    (wire.rcpt('"a b"@c.d'), b'RCPT TO:<"a b"@c.d>\r\n'), (wire.rcpt("ü@c.d"), "RCPT TO:<ü@c.d>\r\n".encode()),
    (wire.parameter("NOTIFY", "SUCCESS,DELAY"), " NOTIFY=SUCCESS,DELAY"), (wire.parameter("ENVID", ""), ""), (wire.parameter("ENVID", "a b"), ""),
    (wire.parameter("ENVID", "a\r\nRSET"), ""),
])
def test_commands(made, expected):
    assert made == expected
