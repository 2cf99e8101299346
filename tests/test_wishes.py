"""What a sender may ask for by X-Relay-* fields: each field, each mistake, and who is obeyed."""

from __future__ import annotations

import pytest

from relay.api.draft import SendInput
from relay.api.draft import wishes as by_api
from relay.errors import Invalid
from relay.mail import header
from relay.mail.message import MARKETING, Wishes
from relay.wishes import AHEAD, take

NOW = 1_800_000_000.0


def taken(*fields: str, obey: bool = True) -> tuple[list[bytes], Wishes]:
    """The names of the fields that are left, and what was asked for."""
    head, _ = header.split("\r\n".join(("From: a@b.example", *fields, "", "")).encode())
    left, wishes = take(head, obey, NOW)
    return [field.name for field in left.fields], wishes


@pytest.mark.parametrize(("field", "wishes"), [
    pytest.param("X-Relay-Tags: welcome, shop, welcome,", Wishes(tags=("welcome", "shop")), id="tags"),
    pytest.param("X-Relay-Topic: top_1", Wishes(topic="top_1", stream=MARKETING), id="topic"),
    pytest.param("X-Relay-Unsubscribe: yes", Wishes(unsubscribe=True, stream=MARKETING), id="unsubscribe"),
    pytest.param("X-Relay-Track: opens=no, clicks=yes", Wishes(opens=False, clicks=True), id="track"),
    pytest.param("X-Relay-Track: off", Wishes(opens=False, clicks=False), id="track both"),
    pytest.param("X-PostStack-Track-Opens: true", Wishes(opens=True), id="opens, alias"),
    pytest.param('X-Relay-Variables: {"a": [1]}', Wishes(variables={"a": [1]}), id="variables"),
    pytest.param("X-PostStack-Idempotency-Key: k1", Wishes(idempotency_key="k1"), id="idempotency, alias"),
    pytest.param("X-Relay-Send-At: 2027-03-25T10:00:00+01:00", Wishes(send_at=1_805_965_200.0), id="send-at"),
    pytest.param("x-relay-retry: OTP", Wishes(retry="otp"), id="retry"),
    pytest.param("X-Relay-Retry: standard", Wishes(), id="retry as ever"),
])
def test_each_field_is_taken_out_and_obeyed(field, wishes):
    assert taken(field) == ([b"from"], wishes)


@pytest.mark.parametrize(("field", "says"), [
    pytest.param(f"X-Relay-Tags: {'t,' * 5}{','.join(map(str, range(10)))}", "at most 10 tags", id="too many tags"),
    pytest.param(f"X-Relay-Tags: {'x' * 65}", "of 64 characters", id="a long tag"),
    pytest.param("X-Relay-Track: pixels=no", "opens=yes|no", id="track what"),
    pytest.param("X-Relay-Unsubscribe: maybe", "yes or no", id="neither yes nor no"),
    pytest.param("X-Relay-Variables: [1]", "JSON object", id="variables"),
    pytest.param("X-Relay-Idempotency-Key: ", "1 to 64 characters", id="no key"),
    pytest.param("X-Relay-Send-At: tomorrow", "2026-03-25T09:00:00Z", id="no time"),
    pytest.param("X-Relay-Send-At: 2026-03-25T09:00:00", "with its zone", id="no zone"),
    pytest.param("X-Relay-Retry: asap", "standard or otp", id="no such table"),
    pytest.param("X-Relay-Retri: otp", "not a field that Relay knows", id="a misspelt field"),
])
def test_a_mistake_is_named_with_the_field(field, says):
    with pytest.raises(Invalid) as caught:
        taken(field)
    assert caught.value.reply.code == 550
    assert field.partition(":")[0] in caught.value.reply.text
    assert says in caught.value.reply.text


def test_a_year_ahead_is_too_far():
    with pytest.raises(Invalid, match="over a year ahead"):
        taken("X-Relay-Send-At: 2028-06-01T00:00:00Z")
    assert AHEAD > 365 * 86_400


def test_who_is_not_authenticated_gives_no_orders():
    assert taken("X-Relay-Retry: otp", "X-Relay-Nonsense: x", obey=False) == ([b"from"], Wishes())


@pytest.mark.parametrize(("given", "retry"), [({}, "standard"), ({"retry": "otp"}, "otp")])
def test_the_api_asks_for_the_same(given, retry):
    email = SendInput.model_validate({"from": "a@b.example", "to": "c@d.example", "subject": "x", "text": "y", **given})
    assert by_api(email, "", "", NOW).retry == retry


def test_the_api_names_a_retry_that_is_none():
    with pytest.raises(ValueError, match="'standard' or 'otp'"):
        SendInput.model_validate({"from": "a@b.example", "to": "c@d.example", "retry": "asap"})
