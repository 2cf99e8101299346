"""sendmail(1) as a process, against a real listener on its socket, and against none."""

from __future__ import annotations

import json
import os
import pwd
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.cli.sendmail import Options, parsed
from relay.mail import drop
from relay.smtp.server import Listener, ListenerOptions
from tests.smtp.desk import Desk
from tests.support.thread import Threaded

ROOT = Path(__file__).parents[2]
ME = pwd.getpwuid(os.getuid()).pw_name
MESSAGE = b"Subject: nightly\nTo: ops@example.com\n\nall went well\n"
Sendmail = Callable[..., subprocess.CompletedProcess]


class Relay(Threaded):
    """A running relay as sendmail sees it: the SMTP listener on submit.sock, with a desk that remembers."""

    def __init__(self, data_dir: Path):
        self.path = data_dir / "submit.sock"
        self.desk = Desk()

    async def open(self) -> None:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(self.path))
        listening.listen()
        self.listener = Listener(self.desk, ListenerOptions("local", "relay.test"))
        await self.listener.start(listening)

    async def shut(self) -> None:
        await self.listener.drain(5)


@pytest.fixture
def data_dir(tmp_path) -> Path:
    (tmp_path / drop.DIRECTORY).mkdir()
    (tmp_path / drop.DIRECTORY).chmod(drop.MODE)
    return tmp_path


@pytest.fixture
def relay(data_dir):
    with Relay(data_dir) as running:
        yield running


@pytest.fixture
def sendmail(data_dir) -> Sendmail:
    def run(*arguments: str, octets: bytes = MESSAGE, environ: dict | None = None, **options) -> subprocess.CompletedProcess:
        environ = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "RELAY_DATA_DIR": str(data_dir), **(environ or {})}
        command = [sys.executable, "-m", "relay.cli.sendmail", *arguments]
        return subprocess.run(command, input=octets, capture_output=True, env=environ, check=False, timeout=150, **options)

    return run


def dropped(data_dir: Path) -> list[tuple[drop.Drop, bytes]]:
    return [drop.decode(path.read_bytes()) for path in sorted((data_dir / drop.DIRECTORY).iterdir())]


def test_the_relay_gets_the_message_as_written(relay, sendmail):
    done = sendmail("-i", "-f", "cron@example.com", "a@example.com", "b@example.com")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    (envelope,), (content,) = relay.desk.envelopes, relay.desk.contents
    assert (envelope.sender, [r.address for r in envelope.recipients]) == ("cron@example.com", ["a@example.com", "b@example.com"])
    assert content.endswith(b"From: cron@example.com\r\n" + MESSAGE.replace(b"\n", b"\r\n"))
    assert content.startswith(b"X-Relay-Idempotency-Key: sendmail-")


def test_cron_needs_no_domain_anywhere(relay, sendmail):
    done = sendmail("-FCronDaemon", "-i", "-odi", "-oem", "-oi", "-t", octets=b"From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@host> date\n\nx\n")
    assert (done.returncode, done.stderr) == (0, b"")
    (envelope,), (content,) = relay.desk.envelopes, relay.desk.contents
    assert (envelope.sender, [r.address for r in envelope.recipients]) == (f"{ME}@relay.test", ["root@relay.test"])
    assert b"From: root@relay.test (Cron Daemon)\r\nTo: root@relay.test\r\nSubject: Cron <root@host> date\r\n\r\nx\r\n" in content


def test_php_takes_recipients_and_sender_from_its_flags(relay, sendmail):
    done = sendmail("-t", "-i", "-fweb@example.com", octets=b"To: <a@example.com>\r\nBcc: b@example.com\r\nSubject: x\r\n\r\n.\r\n..y\r\n")
    assert done.returncode == 0
    (envelope,), (content,) = relay.desk.envelopes, relay.desk.contents
    assert (envelope.sender, [r.address for r in envelope.recipients]) == ("web@example.com", ["a@example.com", "b@example.com"])
    assert content.endswith(b"\r\n\r\n.\r\n..y\r\n")


@pytest.mark.parametrize(("arguments", "octets", "content"), [
    pytest.param((), b"a: b\n\nx\n.\nlost\n", b"a: b\r\n\r\nx\r\n", id="a dot ends the message"),
    pytest.param(("-oi",), b"a: b\n\nx\n.\nkept\n", b"a: b\r\n\r\nx\r\n.\r\nkept\r\n", id="-oi"),
    pytest.param((), b"no header at all\n", b"\r\n\r\nno header at all\r\n", id="a text without header"),
    pytest.param(("-F", 'Joe "X" Doe', "-f", "joe@example.com"), b"a: b\n\n", b'From: "Joe \\"X\\" Doe" <joe@example.com>\r\na: b\r\n\r\n', id="-F"),
    pytest.param(("-F", "Jörg", "-f", "joe@example.com"), b"a: b\n\n", b"From: =?utf-8?b?SsO2cmc=?= <joe@example.com>\r\na: b\r\n\r\n", id="-F outside ASCII"),
])
def test_the_message(relay, sendmail, arguments, octets, content):
    done = sendmail(*arguments, "a@example.com", octets=octets)
    assert (done.returncode, done.stderr) == (0, b"")
    assert relay.desk.contents[0].lower().endswith(content.lower())


def test_what_it_asks_for_travels(relay, sendmail):
    done = sendmail("-N", "success,failure", "-R", "hdrs", "-V", "id 1+2", "-f", "<>", "a@example.com", "jörg@example.com", octets=MESSAGE + "ä\n".encode())
    assert done.returncode == 0
    (envelope,) = relay.desk.envelopes
    assert (envelope.sender, envelope.ret, envelope.body, envelope.smtputf8) == ("", "HDRS", "8BITMIME", True)
    assert envelope.recipients[0].notify == "SUCCESS,FAILURE"
    assert envelope.envid == "id+201+2B2"


@pytest.mark.parametrize(("arguments", "octets", "code", "says"), [
    pytest.param(("refused@example.com",), MESSAGE, 67, b"refused@example.com: 550 5.1.1 no such user", id="nobody of that name"),
    pytest.param(("-f", "refused@example.com", "a@example.com"), MESSAGE, 77, b"550 5.7.1 not a domain of this key", id="not his domain"),
    pytest.param(("a@example.com",), b"X-Desk: refuse\n\n", 77, b"554 5.7.1 refused by the desk", id="after the dot"),
    pytest.param((), MESSAGE, 64, b"nobody to send to", id="no recipients"),
    pytest.param(("-t",), b"Subject: x\n\n", 64, b"nobody to send to", id="-t without any"),
    pytest.param(("-bd",), MESSAGE, 64, b"relay serve", id="no daemon"),
    pytest.param(("-j", "a@example.com"), MESSAGE, 64, b"option -j not recognized", id="unknown option"),
])
def test_what_is_refused_for_good(relay, sendmail, data_dir, arguments, octets, code, says):
    done = sendmail(*arguments, octets=octets)
    assert done.returncode == code
    assert says in done.stderr
    assert relay.desk.contents == []
    assert dropped(data_dir) == []


def test_one_refused_recipient_stops_no_other(relay, sendmail):
    done = sendmail("refused@example.com", "a@example.com")
    assert done.returncode == 67
    assert [r.address for r in relay.desk.envelopes[0].recipients] == ["a@example.com"]


@pytest.mark.parametrize(("arguments", "octets", "waiting"), [
    pytest.param(("a@example.com", "fault@example.com"), MESSAGE, ("fault@example.com",), id="one recipient"),
    pytest.param(("-f", "fault@example.com", "a@example.com"), MESSAGE, ("a@example.com",), id="the sender"),
    pytest.param(("a@example.com",), b"X-Desk: defer\n\n", ("a@example.com",), id="after the dot"),
])
def test_what_is_refused_for_now_waits_in_the_maildrop(relay, sendmail, data_dir, arguments, octets, waiting):
    assert sendmail(*arguments, octets=octets).returncode == 0
    ((told, content),) = dropped(data_dir)
    assert told.recipients == waiting
    assert content.endswith(octets.replace(b"\n", b"\r\n"))


def test_a_relay_that_is_down_costs_nothing(sendmail, data_dir):
    done = sendmail("-i", "-t", "root", octets=MESSAGE, umask=0o077)
    assert (done.returncode, done.stderr) == (0, b"")
    ((told, content),) = dropped(data_dir)
    assert told == drop.Drop(ME, ("root", "ops@example.com"))
    assert content.endswith(MESSAGE.replace(b"\n", b"\r\n"))
    (path,) = (data_dir / drop.DIRECTORY).iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_relay_that_dies_before_its_answer_costs_nothing(sendmail, data_dir):
    """The connection ends after the final dot: the message may be committed or not, and the key in it makes asking again harmless."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(data_dir / "submit.sock"))
        listening.listen()
        listening.settimeout(60)
        command = [sys.executable, "-m", "relay.cli.sendmail", "a@example.com"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT, env={**os.environ, "RELAY_DATA_DIR": str(data_dir)})
        process.stdin.write(MESSAGE)
        process.stdin.close()
        client, _ = listening.accept()
        with client, client.makefile("rwb", buffering=0) as line:
            line.write(b"220 relay.test ESMTP\r\n")
            for answer in (b"250 relay.test", b"250 2.1.0 ok", b"250 2.1.5 ok", b"354 go on"):
                line.readline()
                line.write(answer + b"\r\n")
            while line.readline() != b".\r\n":
                pass
    assert process.wait(150) == 0
    ((told, content),) = dropped(data_dir)
    assert told.recipients == ("a@example.com",)
    assert content.startswith(b"X-Relay-Idempotency-Key: sendmail-")


def test_nowhere_to_put_it_is_a_temporary_failure(sendmail, tmp_path):
    done = sendmail("a@example.com", environ={"RELAY_DATA_DIR": str(tmp_path / "gone")})
    assert done.returncode == 75
    assert b"cannot take the message" in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_any_user_may_leave_mail_and_none_may_look():
    with tempfile.TemporaryDirectory() as place:  # pytest's own directories are closed to others
        data_dir = Path(place)
        data_dir.chmod(0o711)
        (data_dir / drop.DIRECTORY).mkdir()
        (data_dir / drop.DIRECTORY).chmod(drop.MODE)
        _leave_and_look(data_dir)


def _leave_and_look(data_dir: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    become = f"os.setgroups([]); os.setgid({nobody.pw_gid}); os.setuid({nobody.pw_uid})"  # after the imports: not everyone may read this Python
    code = f"import os, sys\nfrom relay.cli.sendmail import main\n{become}\nsys.exit(main(['a@example.com']))"
    environ = {"RELAY_DATA_DIR": str(data_dir), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], input=MESSAGE, env=environ, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    (path,) = (data_dir / drop.DIRECTORY).iterdir()
    assert (path.stat().st_uid, path.stat().st_gid) == (nobody.pw_uid, data_dir.stat().st_gid)
    assert drop.decode(path.read_bytes())[0].sender == "nobody"
    os.chown(path, 0, 0)
    for forbidden in (["ls", str(path.parent)], ["cat", str(path)], ["rm", "-f", str(path)]):
        asked = subprocess.run(forbidden, user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[], capture_output=True, check=False)
        assert asked.returncode != 0


def test_smtp_on_standard_input(relay, sendmail):
    dialog = b"EHLO me\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nSubject: x\r\n\r\nhi\r\n.\r\nQUIT\r\n"
    done = sendmail("-bs", octets=dialog)
    codes = [line[:3] for line in done.stdout.splitlines() if line[3:4] == b" "]
    assert (done.returncode, codes) == (0, [b"220", b"250", b"250", b"250", b"354", b"250", b"221"])
    assert relay.desk.contents == [b"Subject: x\r\n\r\nhi\r\n"]


def test_smtp_on_standard_input_without_a_relay(sendmail):
    done = sendmail("-bs", octets=b"EHLO me\r\n")
    assert (done.returncode, done.stdout[:4]) == (75, b"421 ")


@pytest.mark.parametrize("how", ["environment", "option", "directory", "sendmail's own option"])
def test_the_configuration_says_where_the_relay_is(sendmail, data_dir, tmp_path_factory, how):
    place = tmp_path_factory.mktemp("config")
    config = place / "relay.toml"
    config.write_text(f"data_dir = {json.dumps(str(data_dir))}\n[smtp]\n")
    environ = {"RELAY_DATA_DIR": ""} | ({"RELAY_CONFIG": str(config)} if how == "environment" else {})
    arguments = {"option": ["--config", str(config)], "sendmail's own option": ["-C", str(config)]}.get(how, [])
    done = sendmail(*arguments, "a@example.com", environ=environ, cwd=place if how == "directory" else "/")
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(dropped(data_dir)) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give a file away")
def test_another_users_configuration_gets_no_mail_of_ours(sendmail, data_dir, tmp_path_factory):
    place = tmp_path_factory.mktemp("trap")
    (place / "relay.toml").write_text(f"data_dir = {json.dumps(str(data_dir))}\n")
    os.chown(place / "relay.toml", 65534, 65534)
    sendmail("a@example.com", environ={"RELAY_DATA_DIR": ""}, cwd=place)
    assert dropped(data_dir) == []


@pytest.mark.parametrize(("arguments", "expected"), [
    pytest.param(["-ti"], Options(from_header=True, dots=False), id="bundled"),
    pytest.param(["-oi", "-oem", "-odb", "-oee"], Options(dots=False), id="old -o forms"),
    pytest.param(["-ot", "-ODeliveryMode=b", "-O", "IgnoreDots=True"], Options(from_header=True, dots=False), id="-O forms"),
    pytest.param(["-f", "a@b", "-r", "c@d"], Options(sender="c@d"), id="the last sender counts"),
    pytest.param(["x@y", "-i"], Options(dots=False, recipients=("x@y",)), id="flags after recipients"),
    pytest.param(["--", "-odd@y"], Options(recipients=("-odd@y",)), id="after --"),
    pytest.param(["-q30m"], Options(mode="q"), id="-q with an interval"),
    pytest.param(["-bp"], Options(mode="p"), id="the queue"),
    pytest.param(["-I"], Options(mode="i"), id="newaliases"),
    pytest.param(["-v", "-G", "-n", "-U", "-Bfoo", "-X/dev/null", "-h", "5", "-L", "tag", "-em"], Options(verbose=True), id="taken and ignored"),
])
def test_options(arguments, expected):
    assert parsed(arguments) == expected


def test_it_starts_fast():
    """The cost of a cron mail: processor time of a whole process, 40 ms here of which Python itself has 15; 100 would be felt."""
    def spent(code: str) -> float:
        before = os.times()
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    own, python = "from relay.cli.sendmail import main; raise SystemExit(main(['-q']))", "pass"
    ours, bare = (min(spent(code) for _ in range(3)) for code in (own, python))
    assert ours < max(0.1, 6 * bare)


def test_it_imports_nothing_heavy():
    code = "import sys, relay.cli.sendmail; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert not {"asyncio", "click", "sqlalchemy", "structlog", "orjson", "email", "ssl", "relay.settings"} & set(loaded)


def test_verbose_shows_the_conversation(relay, sendmail):
    done = sendmail("-v", "a@example.com")
    assert b">>> RCPT TO:<a@example.com>" in done.stderr
