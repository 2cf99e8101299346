"""What the checks make of fields and records that strangers wrote: any octets are judged, and none is taken for ours or for proof."""

import base64

import dkim
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.inbound import dmarc
from relay.inbound.authentication import Authentication, author_of, field, strip
from relay.inbound.dmarc import Dmarc
from relay.inbound.spf import Spf
from relay.mail import signatures
from relay.mail.dkim import ED25519, RSA, dns_value, generate
from relay.mail.header import split
from relay.mail.signatures import Claim, Signature
from tests.inbound.letters import PEM, PUBLIC, Stranger
from tests.support.dkim import pair

WORDS = st.text(alphabet="ab=;.,:()<>\"'\\ \t@%*\x7fü", max_size=80)


def header(*fields):
    return split("".join(f"{each}\r\n" for each in fields).encode("utf-8", "replace") + b"\r\n")[0]


class Offline(Stranger):
    """A stranger whose letters are all that is wanted."""

    def __post_init__(self):
        pass


def signed(**options):
    far = Offline(None, name="far.test")
    return far.signed(far.letter("a@b.test"), PEM, **options)


def verdicts(content, keys=None):
    wanted = signatures.claims(split(content)[0])
    keys = {"s1._domainkey.far.test": dns_value(RSA, PUBLIC)} if keys is None else keys
    return [(each.result, each.reason) for each in signatures.verify(content, wanted, keys)]


@pytest.mark.parametrize(("change", "result"), [
    pytest.param(lambda c: c, "pass", id="whole"),
    pytest.param(lambda c: c.replace(b"Hi there", b"Hi thief"), "fail", id="body"),
    pytest.param(lambda c: c.replace(b"Subject: hello", b"Subject: hallo"), "fail", id="subject"),
    pytest.param(lambda c: b"From: boss@far.test\r\n" + c, "fail", id="a-second-author"),
    pytest.param(lambda c: c.replace(b"a=rsa-sha256", b"a=rsa-sha1", 1), "policy", id="sha-1"),
    pytest.param(lambda c: c.replace(b"d=far.test", b"d=far..test", 1), "permerror", id="no-domain"),
    pytest.param(lambda c: c.replace(b"s=s1", b"s=../s1", 1), "permerror", id="no-selector"),
    pytest.param(lambda c: c.replace(b"v=1;", b"v=9;", 1), "fail", id="another-version"),
])
def test_a_signature_and_what_became_of_it(change, result):
    assert [each[0] for each in verdicts(change(signed()))] == [result]


def test_a_signature_over_a_part_of_the_body_is_no_proof():
    assert verdicts(signed(length=True))[0][0] == "policy"


def test_ed25519_is_verified():
    key, records = pair(ED25519)
    letter = Offline(None, name="far.test").letter("a@b.test")
    seed = key.private.private_bytes_raw()
    content = dkim.sign(letter, b"ed25519", b"example.com", base64.b64encode(seed), signature_algorithm=b"ed25519-sha256",
                        include_headers=[b"from", b"to"]) + letter
    assert verdicts(content, records)[0][0] == "pass"


@pytest.mark.parametrize("record", [
    "v=DKIM1; p=", "v=DKIM1; k=rsa; p=junk", "p=AAAA", "v=DKIM1; k=other; p=AAAA", dns_value(RSA, generate()[1]), "p=" + "A" * 5_000,
], ids=["revoked", "junk", "short", "other-kind", "another-key", "long"])
def test_a_key_that_does_not_fit_proves_nothing(record):
    assert verdicts(signed(), {"s1._domainkey.far.test": record})[0][0] in ("fail", "permerror")


def test_only_the_first_signatures_are_looked_at():
    content = b"".join(b"DKIM-Signature: v=1; d=x%d.test; s=s\r\n" % number for number in range(50)) + signed()
    assert len(verdicts(content)) == signatures.SIGNATURES


@given(st.lists(st.tuples(st.sampled_from("vabcdhilqstxz"), st.text(alphabet="abAZ09+/=:. -%\x00ü", max_size=40)), max_size=14))
def test_any_signature_is_judged(tags):
    value = "; ".join(f"{name}={text}" for name, text in tags).replace("\0", "")
    content = f"DKIM-Signature: {value}\r\nFrom: a@far.test\r\n\r\nhi\r\n".encode()
    keys = {each.record: dns_value(RSA, PUBLIC) for each in signatures.claims(split(content)[0])}
    assert all(result != "pass" for result, _ in verdicts(content, keys))


@given(WORDS)
def test_any_results_field_is_kept_or_taken_out(value):
    kept = strip(header(f"Authentication-Results: {value}", "Subject: x"), "relay.test")
    assert [each.name for each in kept.fields][-1] == b"subject"


@given(WORDS, WORDS)
def test_no_disguise_of_our_name_stays(before, after):
    """Whatever stands in comments before it, our name as the bearer goes."""
    comment = "(" + before.translate(str.maketrans("", "", "()\\")) + ")"
    fields = strip(header(f"Authentication-Results: {comment} RELAY.test; {after}"), "relay.test").fields
    assert fields == ()


@given(st.lists(WORDS, max_size=3))
def test_any_dmarc_record_is_read(texts):
    found = dmarc.read("a.test", texts + [f"v=DMARC1; {text}" for text in texts])
    assert found is None or found.p in ("none", "quarantine", "reject")


@given(WORDS)
def test_any_author_is_one_domain_or_none(value):
    assert isinstance(author_of(header(f"From: {value}")), str)


@given(WORDS)
def test_our_own_field_is_one_field(reason):
    claim = Claim(0, "far.test", "s1", RSA)
    found = Authentication(Spf("fail", "far.test", reason=reason), (Signature(claim, "fail", reason),), Dmarc("fail", "far.test", "reject", reason))
    raw = field("relay.test", found).raw
    assert len(header(raw.decode()[:-2]).fields) == 1
    assert raw.startswith(b"Authentication-Results: relay.test;")
