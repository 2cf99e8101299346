"""A relay process that is stopped, reloaded, crippled, filled up and restored while clients are at it: nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import smtplib
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.support.ports import free_port
from tests.support.running import OPEN, TRUSTING, Running, routed
from tests.support.sink import Sink
from tests.support.until import until

MESSAGE = b"From: a@example.com\r\nTo: b@example.net\r\nSubject: x\r\n\r\nhi\r\n"
LATER = "451 4.2.0 come back later"
WORKERS = pytest.mark.parametrize("workers", [0, 2], ids=["one process", "two workers"])


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as running:
        yield running


def running(directory: Path, sink: Sink, workers: int = 0, **settings: str) -> Running:
    """A relay that trusts loopback and sends all mail to the sink."""
    return Running(directory, {**OPEN, **TRUSTING, **routed(sink.address), **settings}, workers)


def send(relay: Running, to: str) -> None:
    with smtplib.SMTP("127.0.0.1", relay.smtp, timeout=60) as line:
        line.sendmail("a@example.com", [to], MESSAGE)


def names(sink: Sink) -> Counter[str]:
    return Counter(name for message in sink.messages for name in message.recipients)


@WORKERS
def test_term_waits_for_the_message_that_is_being_received(tmp_path, sink, workers):
    relay = running(tmp_path, sink, workers)
    relay.start()
    slow, idle = (smtplib.SMTP("127.0.0.1", relay.smtp, timeout=60) for _ in range(2))
    idle.ehlo()
    slow.ehlo()
    slow.mail("a@example.com")
    slow.rcpt("slow@example.net")
    slow.putcmd("data")
    assert slow.getreply()[0] == 354
    slow.send(MESSAGE)
    relay.process.send_signal(signal.SIGTERM)
    assert idle.getreply()[0] == 421
    until(lambda: refused(relay.smtp))
    slow.send(b"more\r\n.\r\n")
    code, words = slow.getreply()
    assert (code, words.split()[-1][:3]) == (250, b"em_")
    assert relay.process.wait(150) == 0
    relay.start()
    sink.wait(1)
    assert relay.stop() == 0
    assert names(sink) == {"slow@example.net": 1}


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_term_gives_up_after_shutdown_timeout(tmp_path, sink):
    relay = running(tmp_path, sink, RELAY_SHUTDOWN_TIMEOUT="1s")
    relay.start()
    line = smtplib.SMTP("127.0.0.1", relay.smtp, timeout=60)
    line.ehlo()
    line.mail("a@example.com")
    line.rcpt("b@example.net")
    line.putcmd("data")
    assert line.getreply()[0] == 354
    line.send(b"half a mess")
    began = time.monotonic()
    assert relay.stop() == 0
    assert 0.9 < time.monotonic() - began < 25  # what it is without the setting


def test_term_right_after_the_start_is_quick_with_workers_too(tmp_path, sink):
    relay = running(tmp_path, sink, workers=2, RELAY_SHUTDOWN_TIMEOUT="1h")
    relay.start()
    assert relay.stop() == 0  # which fails after STOP seconds


@WORKERS
def test_hup_takes_the_new_configuration_or_keeps_the_old(tmp_path, sink, workers):
    config = tmp_path / "relay.toml"
    config.write_text('[smtp]\ntrusted_networks = ["127.0.0.0/8"]\n')
    relay = running(tmp_path, sink, workers, RELAY_CONFIG=str(config))
    del relay.settings["RELAY_SMTP__TRUSTED_NETWORKS"]
    with relay:
        send(relay, "before@example.net")
        reload(relay, config, "[smtp]\ntrusted_networks = []\nmax_sise = 3\n", "reload refused")
        assert "max_size" in relay.log.rpartition("reload refused")[2]
        send(relay, "kept@example.net")
        reload(relay, config, '[smtp]\ntrusted_networks = []\nmax_size = "1MB"\n', "reloaded")
        until(lambda: size(relay) == 1_000_000)
        with pytest.raises(smtplib.SMTPSenderRefused) as refusal:
            send(relay, "after@example.net")
        assert refusal.value.smtp_code == 530
        reload(relay, config, '[smtp]\ntrusted_networks = ["127.0.0.1/32"]\n', "reloaded")
        until(lambda: size(relay) > 20_000_000)
        send(relay, "again@example.net")
        sink.wait(3)
    assert set(names(sink)) == {"before@example.net", "kept@example.net", "again@example.net"}


def reload(relay: Running, config: Path, text: str, event: str) -> None:
    """SIGHUP with this configuration, until the log tells the outcome."""
    told = relay.log.count(f'"{event}')
    config.write_text(text)
    relay.process.send_signal(signal.SIGHUP)
    until(lambda: relay.log.count(f'"{event}') > told)


def size(relay: Running) -> int:
    """What EHLO's answer offers."""
    with smtplib.SMTP("127.0.0.1", relay.smtp, timeout=60) as line:
        line.ehlo()
        return int(line.esmtp_features["size"])


def test_hup_takes_new_routes(tmp_path, sink):
    """A smarthost that moved is used from now on, for mail that waits for the old one too."""
    config = tmp_path / "relay.toml"
    config.write_text(route(1))
    relay = running(tmp_path, sink, RELAY_CONFIG=str(config))
    del relay.settings["RELAY_DELIVERY__ROUTE"]
    with relay:
        send(relay, "a@example.net")
        until(lambda: relay.command("queue", "list")[0]["state"] == "deferred")
        reload(relay, config, route(sink.port), "reloaded")
        send(relay, "b@example.net")
        relay.command("queue", "retry", "--all")
        sink.wait(2)


RULE = 'rules = [{name = "shut", category = "hard", code = "550", text = ["closed for good"]}]'


def test_hup_takes_new_bounce_rules_or_keeps_the_old(tmp_path, sink):
    """What a refusal means is read anew with the file, from the next refusal on."""
    sink.script.rcpt = {f"{name}@example.net": "550 5.7.1 closed for good" for name in "abc"}
    config, rules = tmp_path / "relay.toml", tmp_path / "rules.toml"
    config.write_text("")
    rules.write_text(RULE)
    with running(tmp_path, sink, RELAY_CONFIG=str(config)) as relay:
        refused_for_good(relay, "a@example.net")
        reload(relay, config, f'[suppress]\nrules = "{rules}"\n', "reloaded")
        refused_for_good(relay, "b@example.net")
        rules.write_text(RULE.replace("hard", "harsh"))
        reload(relay, config, f'[suppress]\nrules = "{rules}"\n', "reload refused")
        assert "harsh" in relay.log.rpartition("reload refused")[2]
        refused_for_good(relay, "c@example.net")
        found = {entry["address"]: entry["evidence"]["rule"] for entry in relay.command("suppress", "list")}
    assert found == {"b@example.net": "shut", "c@example.net": "shut"}


def refused_for_good(relay: Running, to: str) -> None:
    send(relay, to)
    until(lambda: any(event["type"] == "email.bounced" for told in relay.command("explain", to)["messages"] for event in told["events"]))


def route(port: int) -> str:
    return f'[[delivery.route]]\ndomain = "*"\nhost = "127.0.0.1:{port}"\n'


@WORKERS
def test_a_renewed_certificate_is_used_without_a_word(tmp_path, sink, workers):
    old, new = trustme.CA(), trustme.CA()
    pem = tmp_path / "cert.pem"
    old.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
    with running(tmp_path, sink, workers, RELAY_SMTP__TLS_CERT=str(pem), RELAY_SMTP__TLS_KEY=str(pem)) as relay:
        assert verified(relay, old)
        new.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "renewed.pem"))
        (tmp_path / "renewed.pem").rename(pem)
        until(lambda: all(verified(relay, new) for _ in range(1 + 10 * workers)))  # each worker looks at the file, at most once a second
        pem.write_text("half a certif")
        time_passes()
        assert verified(relay, new)


def verified(relay: Running, authority: trustme.CA) -> bool:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with smtplib.SMTP("localhost", relay.smtp, timeout=60) as line, contextlib.suppress(ssl.SSLCertVerificationError):
        line.starttls(context=context)
        return True
    return False


def time_passes() -> None:
    """Longer than the certificate's files are trusted to be the same."""
    threading.Event().wait(1.1)


def test_a_worker_that_is_killed_loses_nothing_and_comes_back(tmp_path, sink):
    acknowledged: list[str] = []
    stop = threading.Event()

    def client(name: str) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with contextlib.suppress(smtplib.SMTPException, OSError):
                send(relay, f"{name}{number}@example.net")
                acknowledged.append(f"{name}{number}@example.net")

    with running(tmp_path, sink, workers=2) as relay:
        threads = [threading.Thread(target=client, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for round_ in (1, 2, 3):
            count = len(acknowledged)
            until(lambda count=count: len(acknowledged) > count + 20)
            before = until(lambda: len(found := relay.workers_now()) == 2 and found)
            os.kill(before[round_ % 2], signal.SIGKILL)
            until(lambda before=before: len(found := relay.workers_now()) == 2 and set(found) != set(before))
        stop.set()
        for thread in threads:
            thread.join()
        until(lambda: not relay.command("queue", "list"))
        assert relay.ready()
    arrived = names(sink)
    assert [name for name in acknowledged if arrived[name] != 1] == []


def test_a_full_disk_stops_intake_not_delivery(tmp_path, sink):
    """Below min_free clients hear 452 and probes 503, while what waits is delivered."""
    sink.script.rcpt["*"] = LATER
    with running(tmp_path, sink) as relay:
        send(relay, "waits@example.net")
        until(lambda: "come back later" in relay.run("explain", "waits@example.net").stdout)
    sink.script.rcpt["*"] = "250 2.1.5 welcome"
    relay.settings["RELAY_STORE__MIN_FREE"] = f"{shutil.disk_usage(tmp_path).total // 10**6 + 1}MB"
    with relay:
        assert relay.get("/readyz")[0] == 503
        assert relay.get("/healthz")[0] == 200
        with pytest.raises(smtplib.SMTPResponseException) as refusal:
            send(relay, "new@example.net")
        assert refusal.value.smtp_code == 452
        relay.command("queue", "retry", "--all")
        sink.wait(1)
        assert 'relay_load_shed_active{' in relay.get("/metrics")[1]
    assert names(sink) == {"waits@example.net": 1}


def test_a_backup_of_a_running_relay_starts_held(tmp_path, sink):
    """What the backup holds may have left since: nothing goes out of a restored copy until somebody says so."""
    sink.script.rcpt["*"] = LATER
    with running(tmp_path / "first", sink) as relay:
        for number in range(20):
            send(relay, f"w{number}@example.net")
        until(lambda: len(relay.command("queue", "list")) == 20)
        relay.command("backup", str(tmp_path / "backup"))
        send(relay, "later@example.net")
    sink.script.rcpt["*"] = "250 2.1.5 welcome"
    sink.messages.clear()
    restored = running(tmp_path / "second", sink)
    restore(tmp_path / "backup", tmp_path / "second")
    with restored:
        assert len(restored.command("queue", "list")) == 20
        restored.run("queue", "retry", "--all")
        send(restored, "new@example.net")
        assert "held" in restored.run("explain", "new@example.net").stdout
        assert sink.messages == []
        restored.command("queue", "release", "--all")
        restored.command("queue", "retry", "--all")
        until(lambda: not restored.command("queue", "list"))
    assert names(sink) == {**{f"w{number}@example.net": 1 for number in range(20)}, "new@example.net": 1}


def restore(backup: Path, directory: Path) -> None:
    """As an operator does it: the files of the backup become the data directory."""
    if backup.is_dir():
        shutil.copytree(backup, directory, dirs_exist_ok=True)
    else:
        shutil.unpack_archive(backup, directory)


def test_ports_of_two_kinds_are_handed_over_by_name(need, tmp_path, sink):
    """systemd gives both sockets; each serves its own kind."""
    import subprocess
    import sys

    authority = trustme.CA()
    pem = tmp_path / "cert.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
    implicit = free_port()
    relay = running(tmp_path, sink, RELAY_SMTP__TLS_CERT=str(pem), RELAY_SMTP__TLS_KEY=str(pem), RELAY_SMTP__SUBMISSIONS=f"127.0.0.1:{implicit}")
    command = [need("systemd-socket-activate"), "--listen", f"127.0.0.1:{implicit}", "--listen", f"127.0.0.1:{relay.smtp}"]
    process = subprocess.Popen(
        [*command, *[f"--setenv={name}" for name in relay.environ], sys.executable, "-m", "relay", "serve", "--workers", "2"],
        env=relay.environ, cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        until(lambda: not refused(relay.smtp))
        context = ssl.create_default_context()
        authority.configure_trust(context)
        with smtplib.SMTP_SSL("localhost", implicit, timeout=60, context=context) as line:
            line.sendmail("a@example.com", ["tls@example.net"], MESSAGE)
        send(relay, "plain@example.net")
        sink.wait(2)
    finally:
        process.terminate()
        assert process.wait(150) == 0
