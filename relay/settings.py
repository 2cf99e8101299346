"""The settings: every key of relay.toml with its kind, default and meaning, as frozen dataclasses.

    settings = load("relay.toml", os.environ)
    settings.smtp.submission, settings.shutdown_timeout, settings.delivery.route[0].host

Values come from the defaults below, then the TOML file, then the environment: `RELAY_SMTP__SUBMISSION` is `[smtp] submission`. In the environment
a list is comma-separated or TOML (`["a", "b"]`, `[{use = "policies.dkim"}]`). A secret may be given as `<key>_file`, the path of a file that holds it.
Code sees seconds as float, bytes as int, networks as objects; the texts "5m" and "25MB" end here. An unknown key or a bad value raises ConfigError
naming the key and the way out.

`python -m relay.settings > config/relay.toml` writes the annotated file from this schema; a test keeps the two equal. Only the standard library is
imported, so that every command starts fast.
"""
# ruff: noqa: RUF009 (key() and section() are dataclass fields, not shared defaults)

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relay import kinds
from relay.errors import ConfigError
from relay.kinds import Network
from relay.tables import applied, built, changed, key, overlay, parsed, rows, section, table

__all__ = ["Settings", "applied", "changed", "load", "rows"]


@dataclass(frozen=True, slots=True)
class Smtp:
    submission: str = key("", kinds.ADDRESS, 'Submission (port 587 style): AUTH, and STARTTLS when tls_cert is set. "0.0.0.0:587"; empty = off.', restart=True)
    submissions: str = key("", kinds.ADDRESS, 'Submission with implicit TLS (port 465 style, RFC 8314). "0.0.0.0:465"; empty = off.', restart=True)
    inbound: str = key("", kinds.ADDRESS, 'Mail to us: bounces, complaints, unsubscribes (port 25 style). "0.0.0.0:25"; empty = off.', restart=True)
    tls_cert: str = key("", kinds.TEXT, "PEM certificate chain. A changed file is reloaded by itself.")
    tls_key: str = key("", kinds.TEXT, "PEM private key of tls_cert.")
    max_size: int = key("25MiB", kinds.SIZE, "The largest message, as announced by SIZE (RFC 1870); 25MB is 25,000,000 bytes, 25MiB is 26,214,400.")
    plaintext_auth: tuple[Network, ...] = key(
        ["127.0.0.0/8", "::1/128"], kinds.NETWORKS, "Networks whose clients may AUTH without TLS. Everybody else gets 538 until STARTTLS.")
    trusted_networks: tuple[Network, ...] = key(
        [], kinds.NETWORKS, 'Networks that may submit without AUTH, as project "default". Never that of a proxy or a container gateway: all come from there.')
    proxy_from: tuple[Network, ...] = key([], kinds.NETWORKS, "Proxies that announce the client with the PROXY protocol, version 1 or 2.")
    max_connections: int = key(1000, kinds.COUNT, "Connections to all SMTP listeners together; a tenth is kept for clients that have authenticated before.",
                restart=True)
    max_in_flight: int = key("50MiB", kinds.SIZE, "Bytes of messages that are being received at once; above it clients hear 452 4.3.1 and come back.",
                restart=True)


@dataclass(frozen=True, slots=True)
class Http:
    listen: str = key("", kinds.ADDRESS, 'API, dashboard, docs, metrics, probes. "127.0.0.1:8025"; empty = off.', restart=True)
    public_listen: str = key("", kinds.ADDRESS, "Only what mail readers need: /u, /p, /t, signup forms, /healthz. Empty = served by listen too.", restart=True)
    public_url: str = key("", kinds.URL, 'What links in mail begin with: "https://mail.example.com". Empty = from listen, good for a laptop only.')
    trusted_proxies: tuple[Network, ...] = key([], kinds.NETWORKS, "Reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.", restart=True)
    max_body: int = key("350MB", kinds.SIZE, "The largest request body; above 1 MB it is spooled to disk.", restart=True)
    patience: float = key("25s", kinds.DURATION, "How long a request waits for an import or a segment's act until its answer is 202; clients give up at 30 s.")
    metrics_token: str = key("", kinds.TEXT, "Bearer token for /metrics from elsewhere than loopback. Empty = loopback only.", secret=True)


@dataclass(frozen=True, slots=True)
class Store:
    url: str = key("", kinds.TEXT, 'Where mail waits: "sqlite:////var/lib/relay/relay.db" or "postgresql://user:password@host/database". '
                   "Empty = SQLite in data_dir.", secret=True, restart=True)
    min_free: int = key("512MB", kinds.SIZE, "Free disk space below which no new mail is accepted (452, 503); delivery goes on.", restart=True)
    reserve: int = key("64MB", kinds.SIZE, "Free disk space below which no delivery is attempted either: nothing leaves that cannot be recorded.", restart=True)
    accept_old_sqlite: bool = key(False, kinds.SWITCH, "Start on an SQLite older than 3.51.3, which can lose data when a checkpoint meets a writer.",
                restart=True)


@dataclass(frozen=True, slots=True)
class Dns:
    nameservers: tuple[str, ...] = key([], kinds.ADDRESSES, 'Resolvers as "host:port". Empty = those of /etc/resolv.conf.', restart=True)


@dataclass(frozen=True, slots=True)
class RouteRule:
    domain: str = key("*", kinds.PATTERN, 'Recipient domains: exact, "*.suffix" or "*". The first match wins.')
    host: str = key("", kinds.HOST, '"name:port" or a literal address with port; without a port, 25. Never looked up as MX.')
    username: str = key("", kinds.TEXT, "User name to AUTH with; empty = no AUTH.")
    password: str = key("", kinds.TEXT, "Password to AUTH with.", secret=True)
    tls: str = key("", kinds.one_of("", "none", "opportunistic", "required", "verified", "implicit"),
                   '"none", "opportunistic", "required" (any certificate), "verified", "implicit" (port 465 style, verified). '
                   'Empty = "required" where a password would cross a network, else "opportunistic".')


@dataclass(frozen=True, slots=True)
class Delivery:
    port: int = key(25, kinds.PORT, "The port of other people's MX hosts. Only tests change it.", restart=True)
    sources: tuple[str, ...] = key([], kinds.IPS, "Addresses to send from, in turns. Empty = the kernel chooses.", restart=True)
    allow_private: bool = key(False, kinds.SWITCH, "Deliver to MX hosts on private and loopback addresses too. Routes may always name them.", restart=True)
    ipv6: str = key("auto", kinds.one_of("auto", "always", "never"), '"auto" = only from a source whose name and address confirm each other (FCrDNS).',
                restart=True)
    connections: int = key(500, kinds.COUNT, "Outbound connections at once; one site gets at most a quarter.", restart=True)
    drain: float = key("20s", kinds.DURATION, "How long a stop waits for answers to a final dot; later ones are recorded as ambiguous.")
    route: tuple[RouteRule, ...] = table(RouteRule, "Smarthosts: where mail for some domains goes instead of to their MX.")


@dataclass(frozen=True, slots=True)
class Domains:
    require_verified: bool = key(True, kinds.SWITCH, "Refuse a From or reverse-path outside the project's domains. When false any is accepted; mail "
                                 "from a domain that the project has not added leaves unsigned.")


@dataclass(frozen=True, slots=True)
class Suppress:
    smtp: str = key("reject", kinds.one_of("reject", "accept"),
                    'A suppressed recipient over SMTP: "reject" = 550 at RCPT, "accept" = 250 and the recipient ends as suppressed.')
    unsubscribe: str = key("all", kinds.one_of("all", "marketing"),
                           'What a one-click without topic stops: "all" mail to the address or only "marketing".')
    rules: str = key("", kinds.TEXT, "A file of bounce rules of your own, asked before the shipped ones (config/bounces.toml says how they look). "
                     "SIGHUP reads it again; then: relay bounces replay.")
    hard_for: float = key("0s", kinds.DURATION, "How long a hard bounce suppresses its address; 0s = until somebody lifts it.")
    soft_for: float = key("14d", kinds.DURATION, "How long an address rests that bounced softly on 5 different days within 30 without a delivery; 0s = never.")


@dataclass(frozen=True, slots=True)
class Limit:
    key_per_hour: int = key(0, kinds.COUNT, "Recipients per API key and hour; 0 = no limit.")
    key_per_day: int = key(0, kinds.COUNT, "Recipients per API key and day; 0 = no limit.")
    project_per_hour: int = key(0, kinds.COUNT, "Recipients per project and hour; 0 = no limit.")
    project_per_day: int = key(0, kinds.COUNT, "Recipients per project and day; 0 = no limit.")


@dataclass(frozen=True, slots=True)
class Rspamd:
    url: str = key("", kinds.URL, 'Where rspamd listens: "http://127.0.0.1:11333"; /checkv2 is appended. Empty = no scoring.')
    warn: float = key(5.0, kinds.NUMBER, "Score from which a message carries warnings.")
    block: float = key(10.0, kinds.NUMBER, "Score from which a message is refused; mail to inbound domains is kept, with spam_verdict \"spam\".")
    timeout: float = key("2s", kinds.DURATION, "How long an answer may take; without one the message goes on unscored.")


@dataclass(frozen=True, slots=True)
class Dsn:
    sender: str = key("MAILER-DAEMON", kinds.TEXT, "Local part (at hostname) of the From field of our delivery reports.", restart=True)
    delay_after: float = key("4h", kinds.DURATION, "How long mail waits before a delay report, to those who asked with NOTIFY=DELAY.", restart=True)
    max_quote: int = key("64kB", kinds.SIZE, "How much of the original a report quotes; of a larger one only the header.", restart=True)


@dataclass(frozen=True, slots=True)
class Inbound:
    dmarc: str = key("mark", kinds.one_of("mark", "reject"), 'Mail to inbound domains that fails DMARC where its author\'s domain asks for "reject": '
                     '"mark" = kept, with spam_verdict "spam"; "reject" = 550 5.7.26.')
    per_sender: int = key(600, kinds.COUNT, "Recipients at inbound domains that a sender may write to in an hour (a client where it is null), whichever of "
                          "several relays it writes to; then 450. 0 = no limit.")
    attachments: int = key("10MB", kinds.SIZE, "How much of a message's files a webhook call carries; the others are named and can be fetched.", restart=True)


@dataclass(frozen=True, slots=True)
class Retention:
    bodies: float = key("7d", kinds.DURATION, "How long a message's octets are kept after its last recipient has ended.", restart=True)
    attempts: float = key("90d", kinds.DURATION, "How long delivery attempts are kept.", restart=True)
    events: float = key("90d", kinds.DURATION, "How long events are kept.", restart=True)
    messages: float = key("90d", kinds.DURATION, "How long messages and their recipients are listed after they have ended.", restart=True)
    inbound: float = key("30d", kinds.DURATION, "How long mail to inbound domains is kept, with its files.", restart=True)
    reports: float = key("180d", kinds.DURATION, "How long DMARC and TLS reports about a domain are kept.", restart=True)
    ledger: float = key("365d", kinds.DURATION, "How long it is kept who got a broadcast, after it ended; its figures stay.", restart=True)


@dataclass(frozen=True, slots=True)
class Webhooks:
    allow_private: bool = key(False, kinds.SWITCH, "Call webhooks on private and loopback addresses too.", restart=True)
    timeout: float = key("10s", kinds.DURATION, "How long an endpoint may take to answer.", restart=True)


@dataclass(frozen=True, slots=True)
class Tracking:
    opens: bool = key(False, kinds.SWITCH, "Whether a new domain begins with open tracking on.")
    clicks: bool = key(False, kinds.SWITCH, "Whether a new domain begins with click tracking on.")


@dataclass(frozen=True, slots=True)
class Log:
    level: str = key("info", kinds.one_of("debug", "info", "warning", "error"), '"debug", "info", "warning" or "error".')
    format: str = key("json", kinds.one_of("json", "console"), '"json" (one object a line) or "console".')


@dataclass(frozen=True, slots=True)
class Sendmail:
    users: tuple[str, ...] = key(["*"], kinds.TEXTS, 'Local users who may submit with sendmail, as project "default"; "*" = all.', restart=True)


@dataclass(frozen=True, slots=True)
class Capture:
    listen: str = key("", kinds.ADDRESS, 'A small SMTP server in this process whose mail the dashboard shows. "127.0.0.1:2526"; empty = off.', restart=True)
    keep: int = key(200, kinds.COUNT, "Messages that it keeps, newest first.", restart=True)


def _chain(*names: str) -> list[dict[str, str]]:
    return [{"use": f"policies.{name}"} for name in names]


@dataclass(frozen=True, slots=True)
class Policies:
    submit: tuple[dict[str, Any], ...] = key(
        _chain("headers", "authorize", "suppress", "limit", "rspamd"), kinds.CHAIN, "At the door, before the 250: complete, allow, refuse.")
    copy: tuple[dict[str, Any], ...] = key(_chain("unsubscribe", "track", "verp"), kinds.CHAIN, "When a recipient first comes due: what its own copy gets.")
    attempt: tuple[dict[str, Any], ...] = key(_chain("suppress", "dkim"), kinds.CHAIN, "Connection open, just before MAIL: consent as it is now, then sign.")


@dataclass(frozen=True, slots=True)
class Settings:
    data_dir: Path = key("/var/lib/relay", kinds.PATH, "Where everything lives that must survive: database, bodies, sockets, maildrop.", restart=True)
    hostname: str = key("", kinds.HOSTNAME, "Our name in EHLO, Received and Message-ID; its address and the PTR of the sources should agree. "
                        "Empty = the machine's.", restart=True)
    secret_key: tuple[str, ...] = key("", kinds.SECRETS, "Any text of 32 characters or more, or a list of them: the first signs and seals, all verify "
                                      "and open. Empty = made at the first start in data_dir/secret_key (SQLite only).", secret=True, restart=True)
    shutdown_timeout: float = key("25s", kinds.DURATION, "How long a stop waits for transactions in flight.")
    smtp: Smtp = section(Smtp, "SMTP listeners.")
    http: Http = section(Http, "HTTP listeners.")
    store: Store = section(Store, "The message store.")
    dns: Dns = section(Dns, "Name resolution.")
    delivery: Delivery = section(Delivery, "How mail leaves.")
    domains: Domains = section(Domains, "Sending domains.")
    suppress: Suppress = section(Suppress, "Suppressed recipients.")
    limit: Limit = section(Limit, "Sending limits, none by default; over SMTP a 4xx, so nothing is lost.")
    rspamd: Rspamd = section(Rspamd, "Spam scoring by rspamd: of mail that we send, at the door, and of mail to inbound domains.")
    dsn: Dsn = section(Dsn, "Delivery status notifications (RFC 3464).")
    inbound: Inbound = section(Inbound, "Mail to domains with inbound switched on (relay domain set NAME --inbound).")
    retention: Retention = section(Retention, "How long what is kept.")
    webhooks: Webhooks = section(Webhooks, "Webhook calls.")
    tracking: Tracking = section(Tracking, "Open and click tracking of new domains.")
    log: Log = section(Log, "Log lines, to standard error.")
    sendmail: Sendmail = section(Sendmail, "sendmail(1) on this machine.")
    capture: Capture = section(Capture, "The laptop's capture server (config/local.toml).")
    policies: Policies = section(Policies, "The policy chains, in their order; each entry is `use`, a dotted path, and the policy's own options.")


def load(path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] = {}) -> Settings:
    """The settings of a file and the environment.

    path     relay.toml, or None for the defaults
    environ  os.environ or a part of it; only RELAY_* is read

    Raises ConfigError for a file that cannot be read or parsed, an unknown key, a value of the wrong form, or keys that exclude each other.
    """
    tree = parsed(Path(path)) if path is not None else {}
    for name, text in environ.items():
        if name.startswith("RELAY_"):
            overlay(Settings, tree, name, text)
    return _complete(built(Settings, tree))


def _complete(settings: Settings) -> Settings:
    """The settings with what depends on other keys or on the machine filled in; raises ConfigError for keys that contradict each other."""
    _agree(settings)
    hostname = settings.hostname or kinds.machine_name()
    url = settings.store.url or f"sqlite:///{settings.data_dir / 'relay.db'}"
    public = settings.http.public_url or (f"http://{settings.http.public_listen or settings.http.listen}" if settings.http.listen else f"https://{hostname}")
    routes = tuple(replace(r, tls=r.tls or _route_tls(r)) for r in settings.delivery.route)
    return replace(settings, hostname=hostname, store=replace(settings.store, url=url), http=replace(settings.http, public_url=public),
                   delivery=replace(settings.delivery, route=routes))


def _route_tls(rule: RouteRule) -> str:
    return "required" if rule.username and not kinds.is_loopback(rule.host) else "opportunistic"


def _agree(settings: Settings) -> None:
    if bool(settings.smtp.tls_cert) != bool(settings.smtp.tls_key):
        raise ConfigError("smtp.tls_key" if settings.smtp.tls_cert else "smtp.tls_cert", "is missing; certificate and key go together")
    if settings.smtp.submissions and not settings.smtp.tls_cert:
        raise ConfigError("smtp.submissions", "needs smtp.tls_cert and smtp.tls_key: it speaks TLS from the first byte")
    if any(network.prefixlen == 0 for network in settings.smtp.trusted_networks):
        raise ConfigError("smtp.trusted_networks", "0.0.0.0/0 or ::/0 would make an open relay; name the networks of your own machines")
    if settings.store.reserve > settings.store.min_free:
        raise ConfigError("store.reserve", "is above store.min_free; intake must stop before delivery does")
    for number, rule in enumerate(settings.delivery.route):
        if not rule.host:
            raise ConfigError(f"delivery.route[{number}].host", 'is missing; write host = "name:port"')
    if settings.store.url and not settings.store.url.startswith(("sqlite:///", "postgresql://", "postgres://")):
        raise ConfigError("store.url", 'is not "sqlite:///path" or "postgresql://user:password@host/database"')


if __name__ == "__main__":
    from relay.kinds import annotated

    print(annotated(Settings), end="")
