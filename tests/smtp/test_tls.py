"""Certificates, and TLS in the ways that went wrong elsewhere."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from pathlib import Path

import pytest
import trustme

from relay.clock import Clock
from relay.errors import ConfigError
from relay.metrics import REGISTRY
from relay.smtp.limits import Connections
from relay.smtp.server import Listener, ListenerOptions
from relay.smtp.tls import LOOK, Certificate, family
from tests.smtp.conftest import write_certificate
from tests.smtp.desk import Desk
from tests.smtp.dialog import Client


def serial(address: tuple[str, int], trust: ssl.SSLContext) -> bytes:
    """The certificate that a server of implicit TLS shows."""
    with socket.create_connection(address) as plain, trust.wrap_socket(plain, server_hostname="relay.test") as secure:
        return secure.getpeercert(binary_form=True)


def listener(name: str, certificate: Certificate, **more) -> Listener:
    return Listener(Desk(), ListenerOptions(name, "relay.test", certificate=certificate, connections=Connections(), **more))


@pytest.mark.both_loops
async def test_a_changed_certificate_is_shown_by_the_next_handshake(authority: trustme.CA, trust: ssl.SSLContext, tmp_path: Path):
    path, at = tmp_path / "relay.pem", [0.0]
    write_certificate(authority, path)
    served = listener("submissions", Certificate(path, clock=Clock(elapsed=lambda: at[0])))
    address = await served.start("127.0.0.1")
    before = await asyncio.to_thread(serial, address, trust)
    write_certificate(authority, path)
    assert await asyncio.to_thread(serial, address, trust) == before, "the files are looked at once a second"
    at[0] += LOOK
    assert await asyncio.to_thread(serial, address, trust) != before
    await served.drain(1.0)


def test_half_a_renewal_leaves_the_old_certificate(authority: trustme.CA, tmp_path: Path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    first, second = authority.issue_cert("relay.test"), authority.issue_cert("relay.test")
    first.cert_chain_pems[0].write_to_path(str(cert))
    first.private_key_pem.write_to_path(str(key))
    loaded = Certificate(cert, key)
    second.cert_chain_pems[0].write_to_path(str(cert))
    os.utime(cert, ns=(1, 1))
    assert not loaded.reload()
    assert loaded.context.get_ca_certs() == []
    second.private_key_pem.write_to_path(str(key))
    os.utime(key, ns=(1, 1))
    assert loaded.reload()
    assert not loaded.reload(), "nothing has changed since"
    assert loaded.expires > 0


@pytest.mark.parametrize("content", [None, b"", b"nonsense"], ids=["missing", "empty", "nonsense"])
def test_a_certificate_that_cannot_be_used_is_an_error_of_the_configuration(content: bytes | None, tmp_path: Path):
    path = tmp_path / "relay.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"smtp\.tls_cert"):
        Certificate(path)


@pytest.mark.both_loops
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1")
async def test_old_tls_is_refused(certificate: Certificate, trust: ssl.SSLContext, authority: trustme.CA):
    old = ssl.create_default_context()
    authority.configure_trust(old)
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    served = listener("submissions", certificate)
    address = await served.start("127.0.0.1")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await Client.to(address, old, implicit=True)
    client = await Client.to(address, trust, implicit=True)
    assert (await client.hear()).startswith(b"220")
    client.close()
    await served.drain(1.0)
    assert served.options.connections.open == 0


@pytest.mark.both_loops
async def test_who_speaks_no_tls_is_cut_off_and_not_counted_any_more(certificate: Certificate):
    served = listener("submissions", certificate)
    address = await served.start("127.0.0.1")
    client = await Client.to(address)
    await client.say(b"EHLO client\r\nQUIT\r\n")
    while True:
        try:
            if not await client.reader.read(1_000):
                break
        except ConnectionError:
            break
    assert await served.drain(2.0) == 0
    assert served.options.connections.open == 0


@pytest.mark.both_loops
@pytest.mark.parametrize("octets", [b"", b"\x16\x03\x01"], ids=["at once", "within the handshake"])
async def test_a_client_that_goes_away_during_the_handshake_leaves_nothing(certificate: Certificate, octets: bytes):
    served = listener("submissions", certificate)
    address = await served.start("127.0.0.1")
    for _ in range(5):
        client = await Client.to(address)
        await client.say(octets)
        client.writer.transport.abort()
    assert await served.drain(2.0) == 0
    assert served.options.connections.open == 0


@pytest.mark.both_loops
async def test_the_first_command_may_come_with_the_end_of_the_handshake(certificate: Certificate, trust: ssl.SSLContext):
    """The octets reach us before start_tls has returned; answered then, they would be answered in the clear."""
    served = listener("submission", certificate)
    address = await served.start("127.0.0.1")

    def session() -> bytes:
        with socket.create_connection(address) as plain:
            plain.recv(1_000)
            plain.sendall(b"EHLO client\r\n")
            plain.recv(1_000)
            plain.sendall(b"STARTTLS\r\n")
            plain.recv(1_000)
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            secure = trust.wrap_bio(incoming, outgoing, server_hostname="relay.test")
            while True:
                try:
                    secure.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    incoming.write(plain.recv(10_000))
            secure.write(b"EHLO client\r\n")
            plain.sendall(outgoing.read())  # Finished and EHLO in one packet
            while True:
                try:
                    return secure.read(1_000)
                except ssl.SSLWantReadError:
                    incoming.write(plain.recv(10_000))

    for _ in range(10):
        assert (await asyncio.to_thread(session)).startswith(b"250-relay.test\r\n")
    await served.drain(1.0)
    assert served.options.connections.open == 0


@pytest.mark.both_loops
@pytest.mark.parametrize("together", [True, False], ids=["with the handshake behind it", "alone"])
async def test_proxy_before_implicit_tls(certificate: Certificate, trust: ssl.SSLContext, together: bool):
    served = listener("submissions", certificate, proxy_from=("127.0.0.0/8",))
    address = await served.start("127.0.0.1")

    def session() -> tuple[bytes, bytes]:
        with socket.create_connection(address) as plain:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            secure = trust.wrap_bio(incoming, outgoing, server_hostname="relay.test")
            first = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 465\r\n"
            if not together:
                plain.sendall(first)
                first = b""
            heard = []
            hear = lambda: heard.append(secure.read(1_000))  # noqa: E731
            for act in (secure.do_handshake, hear, lambda: secure.write(b"EHLO client\r\n"), hear):
                while True:
                    try:
                        act()
                        break
                    except ssl.SSLWantReadError:
                        plain.sendall(first + outgoing.read())
                        first = b""
                        incoming.write(plain.recv(10_000))
                plain.sendall(outgoing.read())
            client, = {connection.session.client for connection in served.open}
            assert client == "192.0.2.7"
            return heard[0], heard[1]

    greeting, answer = await asyncio.to_thread(session)
    assert greeting.startswith(b"220 relay.test")
    assert b"AUTH PLAIN LOGIN" in answer
    await served.drain(1.0)


def test_implicit_tls_needs_a_certificate():
    with pytest.raises(ConfigError, match="tls_cert"):
        Listener(Desk(), ListenerOptions("submissions", "relay.test"))


@pytest.mark.parametrize(("cipher", "name"), [
    ("TLS_AES_256_GCM_SHA384", "aes-gcm"), ("ECDHE-RSA-AES128-GCM-SHA256", "aes-gcm"), ("TLS_CHACHA20_POLY1305_SHA256", "chacha20"),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", "chacha20"), ("TLS_AES_128_CCM_8_SHA256", "aes-ccm"), ("ECDHE-RSA-AES256-SHA384", "aes-cbc"), ("AES128-SHA", "aes-cbc"),
    ("ECDHE-RSA-CAMELLIA256-SHA384", "other"),
])
def test_ciphers_have_few_families(cipher: str, name: str):
    assert family(cipher) == name


def test_every_cipher_that_we_speak_has_a_family(certificate: Certificate):
    assert {family(each["name"]) for each in certificate.context.get_ciphers()} <= {"aes-gcm", "chacha20", "aes-ccm", "aes-cbc"}


async def test_a_session_is_counted_by_protocol_and_family_of_cipher(certificate: Certificate, authority: trustme.CA):
    def sessions(proto: str, family: str) -> float:
        return REGISTRY.get_sample_value("relay_smtp_tls_sessions_total", {"proto": proto, "cipher_family": family, "direction": "in"}) or 0.0

    served = listener("submissions", certificate)
    address = await served.start("127.0.0.1")
    before = sessions("TLSv1.2", "chacha20"), sessions("TLSv1.3", "aes-gcm")
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    trust.maximum_version = ssl.TLSVersion.TLSv1_2
    trust.set_ciphers("ECDHE+CHACHA20")
    client = await Client.to(address, trust, implicit=True)
    await client.hear()
    await client.ask(b"QUIT")
    assert (sessions("TLSv1.2", "chacha20"), sessions("TLSv1.3", "aes-gcm")) == (before[0] + 1, before[1])
    await served.drain(1.0)
