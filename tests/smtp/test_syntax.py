"""Paths and parameters, by table and by anything that Hypothesis thinks of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import Invalid, Refuse
from relay.smtp import syntax


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("FROM:<a@b.example>", ("a@b.example", "")),
        ("from: <a@b.example> SIZE=1", ("a@b.example", "SIZE=1")),
        ("FROM:<>", ("", "")),
        ("FROM:<> BODY=8BITMIME SMTPUTF8", ("", "BODY=8BITMIME SMTPUTF8")),
        ("FROM:<@r.example:a@b.example>", ("a@b.example", "")),
        ('FROM:<"a > b"@c.example> X=<>', ('"a > b"@c.example', "X=<>")),
        ('FROM:<"a\\"b"@c.example>', ('"a\\"b"@c.example', "")),
    ],
    ids=lambda value: str(value)[:40],
)
def test_reverse_paths(argument: str, expected: tuple[str, str]):
    assert syntax.reverse_path(argument) == expected


@pytest.mark.parametrize(
    "argument", ["", "FROM", "FROM:", "FROM:a@b.example", "FROM:<a@b.example", "FROM:<a@b.example>SIZE=1", "TO:<a@b.example>", "FROM:<a b@c>", "FROM:<<a@b>>"],
)
def test_what_is_no_reverse_path(argument: str):
    with pytest.raises(Refuse) as refused:
        syntax.reverse_path(argument)
    assert refused.value.reply.code == 501


def test_a_forward_path_is_never_empty():
    with pytest.raises(Refuse) as refused:
        syntax.forward_path("TO:<>")
    assert refused.value.reply.enhanced == "5.1.3"


@given(st.text(max_size=80))
def test_any_text_is_a_path_or_refused(text: str):
    for read, word in ((syntax.reverse_path, "FROM"), (syntax.forward_path, "TO")):
        for argument in (text, f"{word}:{text}", f"{word}:<{text}>"):
            try:
                address, _ = read(argument)
                syntax.check_sender(address, True)
                if address:
                    syntax.recipient(address, True)
            except (Refuse, Invalid):
                continue
            assert not any(c in address for c in "\r\n\0")


@given(st.text(max_size=60), st.sampled_from([*syntax.MAIL, *syntax.RCPT, "X"]))
def test_any_parameter_is_understood_or_refused(text: str, keyword: str):
    for table in (syntax.MAIL, syntax.RCPT):
        try:
            fields = syntax.parameters(f"{keyword}={text}", table)
        except Refuse:
            continue
        assert set(fields) <= {name for name, _ in table.values()}


@given(st.text(alphabet="abcXYZ019+2Bé;=<>,-", max_size=40))
def test_an_envelope_id_is_kept_letter_by_letter(text: str):
    try:
        fields = syntax.parameters(f"ENVID={text}", syntax.MAIL)
    except Refuse:
        return
    assert fields["envid"] == text


def test_a_key_folds_case_and_the_domain():
    assert syntax.recipient("A.B@Example.COM", False) == ("a.b@example.com", "example.com")
    assert syntax.recipient('"a.b"@Example.COM', False) == ("a.b@example.com", "example.com")
