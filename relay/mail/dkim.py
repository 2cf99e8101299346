"""DKIM signatures: header fields in bytes out, over a body that is hashed once (RFC 6376, RFC 8301, RFC 8463).

Both parts are canonicalised relaxed. Every field that a reader sees or that decides how the body is read is named in `h=` once more than it occurs
(oversigned, RFC 6376 §8.15), so nobody can add a second From or another Content-Type; there is no `l=`. A domain with an RSA and an Ed25519 key gets
two signatures, RSA's first. RSA releases the GIL while it signs, so `sign` may run in a thread. The result depends on its arguments only: the same
header, keys and time give the same octets, for Ed25519 and RSA (PKCS#1 v1.5) alike.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_private_key

from relay.errors import Invalid
from relay.mail.header import Field, Header

RSA = "rsa-sha256"
ED25519 = "ed25519-sha256"
BITS = 2048  # RSA: 1024 is too short (RFC 8301 §3.2), 4096 does not fit in what many DNS panels take and costs six times the CPU
KEYS = 1024  # parsed private keys kept; parsing an RSA key costs as much as signing
LINE = 76  # columns of a folded signature; long fields are re-folded on the way by some servers, which relaxed forgives and short lines avoid

OVERSIGNED = (
    b"from", b"to", b"cc", b"subject", b"date", b"reply-to", b"message-id", b"in-reply-to", b"references",
    b"mime-version", b"content-type", b"content-transfer-encoding",
)
# Signed where present and not oversigned: a mailing list adds these honestly. RFC 8058 §4 wants the two List-Unsubscribe fields covered.
COVERED = (
    b"sender", b"list-unsubscribe", b"list-unsubscribe-post", b"list-id", b"list-help", b"list-owner", b"list-post", b"list-subscribe", b"list-archive",
    b"feedback-id", b"auto-submitted", b"content-id", b"content-description",
)

_ROWS = tuple((name, name.decode(), name in OVERSIGNED) for name in (*OVERSIGNED, *COVERED))
_FOLD = re.compile(rb"\r\n(?=[ \t])")
_SPACES = re.compile(rb"[ \t]+")
PIECE = 1_000_000  # octets of a body that are made canonical at once
_TABS = bytes.maketrans(b"\t", b" ")


@dataclass(frozen=True, slots=True)
class Key:
    """A private key ready to sign for `d=domain; s=selector`; `algorithm` is RSA or ED25519."""

    domain: str
    selector: str
    algorithm: str
    private: RSAPrivateKey | Ed25519PrivateKey

    def sign(self, data: bytes) -> bytes:
        """The signature of the octets: RSA signs their hash (RFC 6376 §3.3), Ed25519 takes the hash as its message (RFC 8463 §3)."""
        if isinstance(self.private, RSAPrivateKey):
            return self.private.sign(data, padding.PKCS1v15(), SHA256())
        return self.private.sign(hashlib.sha256(data).digest())


def key(domain: str, selector: str, pem: bytes) -> Key:
    """The key from PKCS#8 PEM; the algorithm follows from the key itself. Raises Invalid("dkim") for what cannot sign."""
    private = _private(pem)
    return Key(domain, selector, RSA if isinstance(private, RSAPrivateKey) else ED25519, private)


def generate(algorithm: str = RSA) -> tuple[bytes, str]:
    """A new key: its PEM (PKCS#8, not encrypted) and the `p=` value of its DNS record. RSA takes about 0.2 seconds."""
    if algorithm not in (RSA, ED25519):
        raise Invalid("algorithm", f"{algorithm!r} is not a DKIM algorithm; use {RSA} or {ED25519}")
    private = generate_private_key(65537, BITS) if algorithm == RSA else Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem, public(pem)


def public(pem: bytes) -> str:
    """The `p=` value that belongs to a private key: SubjectPublicKeyInfo for RSA (RFC 6376 §3.6.1), 32 bare octets for Ed25519 (RFC 8463 §4)."""
    private = _private(pem)
    if isinstance(private, RSAPrivateKey):
        return b64encode(private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
    return b64encode(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def dns_value(algorithm: str, p: str) -> str:
    """The TXT record of `selector._domainkey.domain`, unsplit."""
    return f"v=DKIM1; k={'rsa' if algorithm == RSA else 'ed25519'}; p={p}"


def canonical_body(body: bytes) -> bytes:
    """The body as `relaxed` has it (RFC 6376 §3.4.4).

    body  lines ending in CRLF with no bare CR or LF, as the door leaves it

    Every step runs at C speed and is skipped where its octets do not occur; halving runs of spaces takes log2(longest run) passes.
    """
    if b"\t" in body:
        body = body.translate(_TABS)
    while b"  " in body:
        body = body.replace(b"  ", b" ")
    if b" \r\n" in body:
        body = body.replace(b" \r\n", b"\r\n")
    body = body.rstrip(b"\r\n").removesuffix(b" ").rstrip(b"\r\n")
    return body + b"\r\n" if body else b""


def body_hash(body: bytes, piece: int = PIECE) -> bytes:
    """SHA-256 of the canonical body, 32 octets; of one larger than `piece` octets piece by piece, so that no copy of it is made."""
    if len(body) <= piece:
        return hashlib.sha256(canonical_body(body)).digest()
    digest, blank, begin = hashlib.sha256(), b"", 0
    while begin < len(body):
        end = body.find(b"\n", begin + piece) + 1 or len(body)  # lines stay whole, and all but trailing empty ones are canonical by themselves
        lines = canonical_body(body[begin:end])
        if lines:
            digest.update(blank + lines)
            blank = b""
        blank += b"\r\n" * _empty(body, begin, end)
        begin = end
    return digest.digest()


def _empty(body: bytes, begin: int, end: int) -> int:
    """How many empty lines, as relaxed has it, body[begin:end] ends in; all of them where it has no other."""
    piece = body[begin:end]
    text = piece.rstrip(b" \t\r\n")
    after = piece[len(text):].count(b"\n")
    return after - 1 if text else after


def sign(header: Header, digest: bytes, keys: Sequence[Key], now: float) -> tuple[Field, ...]:
    """The DKIM-Signature fields to put on top, one for each key in their order.

    header  the fields as they will be sent
    digest  body_hash of the body
    now     UTC seconds, for t=
    """
    names, signed = _selection(header)
    return tuple(_signature(key, names, signed, b64encode(digest).decode(), int(now)) for key in keys)


def _selection(header: Header) -> tuple[tuple[str, ...], bytes]:
    """The names for `h=` and the canonical octets of the fields they stand for, the last of several first (RFC 6376 §5.4.2)."""
    present: dict[bytes, list[bytes]] = {}
    for f in header.fields:
        present.setdefault(f.name, []).append(f.raw)
    names, signed = [], []
    for name, text, oversigned in _ROWS:
        found = present.get(name)
        if found is not None:
            for raw in reversed(found):
                names.append(text)
                signed.append(_relaxed(name, raw))
        if oversigned:
            names.append(text)
    return tuple(names), b"".join(signed)


def _relaxed(name: bytes, raw: bytes) -> bytes:
    """One field as `relaxed` has it, with CRLF (RFC 6376 §3.4.2)."""
    value = raw[raw.index(b":") + 1:]
    if b"\r\n " in value or b"\r\n\t" in value:
        value = _FOLD.sub(b"", value)
    if b"  " in value or b"\t" in value:
        value = _SPACES.sub(b" ", value)
    return b"%b:%b\r\n" % (name, value.strip(b" \t\r\n"))


def _signature(key: Key, names: tuple[str, ...], signed: bytes, digest: str, now: int) -> Field:
    text = f"v=1; a={key.algorithm}; c=relaxed/relaxed;\r\n\td={key.domain}; s={key.selector}; t={now};\r\n\t{_folded(names)};\r\n\tbh={digest};\r\n\tb="
    bare = b"DKIM-Signature: " + text.encode()
    data = signed + _relaxed(b"dkim-signature", bare)[:-2]
    value = b64encode(key.sign(data))
    lines = [value[at:at + LINE - 4] for at in range(0, len(value), LINE - 4)]
    return Field(b"dkim-signature", b"%b%b\r\n" % (bare, b"\r\n\t ".join(lines)))


@lru_cache(maxsize=256)
def _folded(names: tuple[str, ...]) -> str:
    """`h=` with its names, folded after the colon that would leave no room for the next; mail of one app has few different ones."""
    lines, line = [], "h="
    for name in names:
        if len(line) + len(name) >= LINE:
            lines.append(line)
            line = ""
        line += f"{name}:"
    return "\r\n\t ".join((*lines, line))[:-1]


@lru_cache(maxsize=KEYS)
def _private(pem: bytes) -> RSAPrivateKey | Ed25519PrivateKey:
    try:
        private = load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise Invalid("dkim", f"the private key cannot be read: {error}") from None
    if isinstance(private, Ed25519PrivateKey) or (isinstance(private, RSAPrivateKey) and private.key_size >= 1024):
        return private
    raise Invalid("dkim", "a DKIM key is RSA of at least 1024 bits or Ed25519")
