"""Checks that look at this machine: settings, disk, store, policies, certificate, listeners, clock."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import resource
import ssl
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from relay import entrance, policy
from relay.cli.checks import ERROR, WARNING, Check, Context, Finding
from relay.clock import iso
from relay.errors import ConfigError
from relay.kinds import is_loopback, split_address
from relay.store import steps
from relay.store.sqlite_file import SAFE, VERSION

WAL = 512_000_000  # bytes of write-ahead log from which a reader must be pinning it (B5)
EXPIRY = 14 * 86_400.0  # seconds before a certificate's end from which it is a warning; renewal is usual at 30 days
FILES = 4_096  # file descriptors that 1,000 clients, 500 deliveries and the store need with room to spare
GATEWAYS = tuple(map(ip_address, ("172.17.0.1", "10.88.0.1")))  # of Docker's and Podman's default networks: all containers seem to come from there
STEPPED = 86_400.0  # seconds for which a clock that was set is told of
UNSYNCHRONIZED = 5  # TIME_ERROR of adjtimex(2)


async def settings(context: Context) -> Sequence[Finding]:
    found, s = [], context.settings
    if not any((s.smtp.submission, s.smtp.submissions, s.smtp.inbound, s.http.listen)):
        found.append(Finding(ERROR, "smtp.submission", "no listener is set, nobody can bring mail", 'set smtp.submission = "0.0.0.0:587"'))
    if "." not in s.hostname or s.hostname.startswith("localhost"):
        found.append(Finding(WARNING, "hostname", f"{s.hostname} is not a full name, large receivers refuse such an EHLO", 'set hostname = "mail.your-domain"'))
    if urlsplit(s.http.public_url).scheme == "http" and not context.laptop:
        found.append(Finding(WARNING, "http.public_url", f"links in mail begin with {s.http.public_url}, one-click unsubscribing needs https (RFC 8058)",
                             "put a proxy with TLS in front and set http.public_url"))
    if s.http.listen and not s.http.public_listen and not is_loopback(s.http.listen):
        found.append(Finding(WARNING, "http.public_listen", f"mail readers and administrators share {s.http.listen}",
                             "set http.public_listen for the pages that the world must reach"))
    if s.smtp.submission and not s.smtp.tls_cert and not is_loopback(s.smtp.submission):
        found.append(Finding(WARNING, "smtp.tls_cert", "there is no STARTTLS, so only plaintext_auth networks can AUTH",
                             "set smtp.tls_cert and smtp.tls_key"))
    for network in s.smtp.trusted_networks:
        found += [Finding(WARNING, "smtp.trusted_networks", f"{network} has the container gateway {gateway}: whoever comes through it is trusted",
                          "name the containers' own addresses") for gateway in GATEWAYS if gateway in network]
    return found


async def disk(context: Context) -> Sequence[Finding]:
    s, found = context.settings, []
    place = s.data_dir
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK):
        found.append(Finding(ERROR, "data_dir", f"{place} cannot be written by this user", f"run as the relay's user, or chown {place}"))
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    if free < s.store.min_free:
        found.append(Finding(ERROR, "store.min_free", f"{free // 10**6} MB are free on {place}, below {s.store.min_free // 10**6} MB no mail is accepted",
                             "free space, or lower store.min_free"))
    elif free < 2 * s.store.min_free:
        found.append(Finding(WARNING, "store.min_free", f"{free // 10**6} MB are free on {place}, intake stops at {s.store.min_free // 10**6} MB",
                             "free space"))
    if status.f_files and status.f_favail * 20 < status.f_files:
        found.append(Finding(WARNING, "data_dir", f"less than 5 % of the inodes are free on {place}", "remove small files"))
    key = s.data_dir / "secret_key"
    if key.exists() and key.stat().st_mode & 0o077:
        found.append(Finding(ERROR, "secret_key", f"{key} can be read by others", f"chmod 600 {key}"))
    return found


async def store(context: Context) -> Sequence[Finding]:
    s, found = context.settings, []
    if context.fault:
        found.append(Finding(ERROR, "store.url", context.fault))
    if s.store.url.startswith("sqlite"):
        if VERSION < SAFE:
            version = ".".join(map(str, VERSION))
            found.append(Finding(WARNING if s.store.accept_old_sqlite else ERROR, "store.accept_old_sqlite",
                                 f"SQLite {version} can lose data when a checkpoint meets a writer", "pip install pysqlite3"))
        found += _wal(context)
    elif not s.secret_key:
        found.append(Finding(ERROR, "secret_key", "must be set with PostgreSQL, the same on every relay", "openssl rand -base64 33"))
    return found


def _wal(context: Context) -> list[Finding]:
    if context.store is None or context.store.path is None:
        return []
    log = context.store.path.with_name(f"{context.store.path.name}-wal")
    size = log.stat().st_size if log.exists() else 0
    if size < WAL:
        return []
    return [Finding(WARNING, "store.url", f"the write-ahead log has {size // 10**6} MB: a reader holds it",
                    "end the program that reads the database, or restart the relay")]


async def policies(context: Context) -> Sequence[Finding]:
    tools = entrance.tools(context.settings, context.store, context.secrets, context.clock, None)
    found = []
    for chain in ("submit", "copy", "attempt"):
        try:
            policy.load(f"policies.{chain}", getattr(context.settings.policies, chain), tools.services)
        except ConfigError as error:
            found.append(Finding(ERROR, error.key, error.text.removeprefix(f"{error.key}: ")))
    if not any(entry["use"] == "policies.authorize" for entry in context.settings.policies.submit):
        found.append(Finding(WARNING, "policies.submit", "policies.authorize is not in the chain: any key may send as anybody"))
    if not any(entry["use"] == "policies.suppress" for entry in context.settings.policies.attempt):
        found.append(Finding(WARNING, "policies.attempt", "policies.suppress is not in the chain: an unsubscribe does not stop mail that waits"))
    await tools.services.fetch.close()
    return found


async def certificate(context: Context) -> Sequence[Finding]:
    smtp = context.settings.smtp
    if not smtp.tls_cert:
        return []
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(smtp.tls_cert, smtp.tls_key)
    except (OSError, ssl.SSLError) as error:
        return [Finding(ERROR, "smtp.tls_cert", f"{smtp.tls_cert} and {smtp.tls_key} cannot be used: {error}", "renew them, or mend the paths")]
    return _certificate(smtp.tls_cert, context.settings.hostname, context.clock.now())


def _certificate(path: str, hostname: str, now: float) -> list[Finding]:
    """What the first certificate of the file says about its time and its names."""
    from cryptography import x509

    with open(path, "rb") as file:
        first = x509.load_pem_x509_certificates(file.read())[0]
    found, left = [], first.not_valid_after_utc.timestamp() - now
    if left < EXPIRY:
        text = f"expires in {left / 86_400:.0f} days" if left > 0 else "has expired"
        found.append(Finding(WARNING if left > 0 else ERROR, "smtp.tls_cert", f"{path} {text}", "renew it; the relay takes the new file by itself"))
    try:
        names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        names = []
    if not any(hostname == name or (name.startswith("*.") and hostname.partition(".")[2] == name[2:]) for name in names):
        found.append(Finding(WARNING, "smtp.tls_cert", f"{path} is for {', '.join(names) or 'no name'}, not for {hostname}", "mail libraries check the name"))
    return found


async def listeners(context: Context) -> Sequence[Finding]:
    s = context.settings
    keys = {"smtp.submission": s.smtp.submission, "smtp.submissions": s.smtp.submissions, "smtp.inbound": s.smtp.inbound, "http.listen": s.http.listen,
            "http.public_listen": s.http.public_listen, "capture.listen": s.capture.listen}
    used: dict[str, str] = {}
    found = []
    for key, address in keys.items():
        if not address or address.endswith(":0"):
            continue
        if address in used:
            found.append(Finding(ERROR, key, f"{address} is also {used[address]}", "give it a port of its own"))
        used[address] = key
        found += await _answers(key, address) if context.pid is not None else _free(key, address)
    return found


async def _answers(key: str, address: str) -> list[Finding]:
    """A relay runs here: it should be the one that answers."""
    host, port = split_address(address)
    try:
        async with asyncio.timeout(5.0):
            _, writer = await asyncio.open_connection({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)  # noqa: S104
        writer.close()
    except (OSError, TimeoutError) as error:
        return [Finding(ERROR, key, f"the relay runs, but {address} does not answer: {error}", "restart it; a changed address needs a restart")]
    return []


def _free(key: str, address: str) -> list[Finding]:
    """No relay runs here: it should be able to listen."""
    try:
        entrance.bound(address).close()
    except PermissionError:
        return [Finding(ERROR, key, f"this user may not listen on {address}",
                        "start by systemd's relay.socket, give CAP_NET_BIND_SERVICE, or use a port above 1023")]
    except OSError as error:
        text = {errno.EADDRINUSE: "another program listens there", errno.EADDRNOTAVAIL: "this machine has no such address"}.get(error.errno, str(error))
        return [Finding(ERROR, key, f"{address}: {text}", "end that program, or choose another address")]
    return []


async def limits(_: Context) -> Sequence[Finding]:
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= FILES:
        return []
    return [Finding(WARNING, "smtp.max_connections", f"only {soft} files may be open", f"ulimit -n {FILES}, or LimitNOFILE={FILES} in the unit")]


async def clock(context: Context) -> Sequence[Finding]:
    """Due times are wall clock: a clock that nobody sets makes mail late or early, and so does one that is set by leaps."""
    found = []
    if context.laptop:  # it sleeps, and is set when it wakes
        return found
    if _adjtimex() == UNSYNCHRONIZED:
        found.append(Finding(WARNING, "", "the clock is not synchronized", "run chrony, ntpd or systemd-timesyncd"))
    step = await context.store.read(steps.last) if context.store is not None else None
    if step is not None and context.clock.now() - step[0] < STEPPED:
        way = f"{abs(step[1]):.0f} s {'forward' if step[1] > 0 else 'back'}"
        found.append(Finding(WARNING, "", f"the clock was set {way}, found at {iso(step[0])}: mail that waits goes by it",
                             "let one program alone set the clock, and slew it: chrony, ntpd or systemd-timesyncd"))
    return found


def _adjtimex() -> int:
    """The state of the kernel's clock, as adjtimex(2) returns it; 0 where it cannot be asked."""
    try:
        return ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))  # modes = 0: read only; struct timex has 208 bytes
    except (OSError, AttributeError):
        return 0


CHECKS: tuple[tuple[str, Check], ...] = (
    ("settings", settings),
    ("disk", disk),
    ("store", store),
    ("policies", policies),
    ("certificate", certificate),
    ("listeners", listeners),
    ("limits", limits),
    ("clock", clock),
)
