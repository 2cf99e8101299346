"""sendmail(1) and mailq(1): how cron, PHP and old scripts hand mail to Relay, whether it runs or not.

    sendmail [-t] [-i] [-f SENDER] [-F NAME] [-N NOTIFY] [-R RET] [-V ENVID] [-v] [RECIPIENT ...] < MESSAGE
    sendmail -bs          speak SMTP on standard input and output
    sendmail -bp, mailq   show the queue

The message goes to the running relay, else into the maildrop (relay.cli.handing); either way exit 0 means that it is on disk.

Other options of sendmail are taken and ignored, so that callers need no change. Exit codes are those of sysexits(3). Only the standard library and
relay.mail are imported: a cron job should not wait for us to start.
"""

from __future__ import annotations

import getopt
import os
import pwd
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from relay.cli.handing import DATAERR, OK, SOCKET, TEMPFAIL, USAGE, Failed, connected, deliver
from relay.mail import drop, local
from relay.mail.drop import Drop

DATA_DIR = Path("/var/lib/relay")  # as relay.settings
CONFIGS = ("relay.toml", "/etc/relay/relay.toml")
LARGEST = 100_000_000  # bytes read at most; the relay says what it takes
LONGEST = 65_536  # bytes of a line that -bs passes on at once
SHORT = "A:B:C:F:GIL:N:O:R:UV:X:b:ce:f:h:imno:p:r:tvx"  # of Postfix's and Sendmail's, all but those with an optional argument
OPTIONAL = ("-q", "-d", "-E")
XTEXT = {code: f"+{code:02X}" for code in (*range(33), 43, 61, *range(127, 256))}  # RFC 3461 §4


@dataclass(frozen=True, slots=True)
class Options:
    mode: str = "m"  # of -b
    config: str = ""
    sender: str | None = None
    name: str = ""
    from_header: bool = False
    dots: bool = True  # a lone dot ends the message
    notify: str = ""
    ret: str = ""
    envid: str = ""
    verbose: bool = False
    recipients: tuple[str, ...] = ()


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        options = parsed(sys.argv[1:] if arguments is None else arguments)
        return MODES[options.mode](options)
    except Failed as failed:
        print(f"sendmail: {failed}", file=sys.stderr)
        return failed.code
    except OSError as error:  # whoever gave us standard input or wanted our output is gone, or the relay is
        print(f"sendmail: {error}", file=sys.stderr)
        return TEMPFAIL


def mailq() -> int:
    return main(["-bp", *sys.argv[1:]])


def parsed(arguments: Sequence[str]) -> Options:
    """The options; raises Failed for what no sendmail knows."""
    given = [each for each in arguments if not each.startswith(OPTIONAL)]
    try:
        found, rest = getopt.gnu_getopt(given, SHORT, ["config="])
    except getopt.GetoptError as error:
        raise Failed(USAGE, str(error)) from None
    options = Options(recipients=tuple(rest))
    for name, value in found:
        options = replace(options, **_option(name, value))
    if "-q" in {each[:2] for each in arguments} and not rest and not options.from_header and options.mode == "m":
        return replace(options, mode="q")
    if options.mode not in MODES:
        raise Failed(USAGE, f"-b{options.mode} is not for sendmail; the relay itself is `relay serve`")
    return options


def _option(name: str, value: str) -> dict:
    """The change that one option makes; those without meaning here make none."""
    if name == "-o":  # old style: -oi, -oem, -odb
        return {"dots": False} if value in ("i", "True") else {"from_header": True} if value == "t" else {}
    if name == "-O":
        return {"dots": False} if value.lower().replace(" ", "") in ("ignoredots", "ignoredots=true") else {}
    known = {
        "-b": {"mode": value}, "-C": {"config": value}, "--config": {"config": value}, "-f": {"sender": value}, "-r": {"sender": value}, "-F": {"name": value},
        "-t": {"from_header": True}, "-i": {"dots": False}, "-N": {"notify": value.upper()}, "-R": {"ret": value.upper()}, "-V": {"envid": value},
        "-v": {"verbose": True}, "-I": {"mode": "i"},
    }
    return known.get(name, {})


# Where the relay is


def data_dir(options: Options) -> Path:
    """The relay's directory: from the environment, else from the configuration that we may read and that we have reason to trust, else the default."""
    if given := os.environ.get("RELAY_DATA_DIR"):
        return Path(given)
    for path in (options.config or os.environ.get("RELAY_CONFIG") or "", *CONFIGS):
        if path and (found := _configured(Path(path))):
            return found
    return DATA_DIR


def _configured(path: Path) -> Path | None:
    """`data_dir` of a configuration; None when it is not there, not for our eyes (it holds secrets), or another user's who could thus take our mail."""
    import tomllib

    try:
        if path.stat().st_uid not in (0, os.getuid()):
            return None
        with path.open("rb") as file:
            return Path(tomllib.load(file).get("data_dir", DATA_DIR)).expanduser()
    except (OSError, ValueError, TypeError):
        return None


# The message


def send(options: Options) -> int:
    """Hand over standard input."""
    octets = sys.stdin.buffer.read(LARGEST + 1)
    if len(octets) > LARGEST:
        raise Failed(DATAERR, f"the message is over {LARGEST} bytes")
    content = local.canonical(octets, options.dots)
    named = [spec for each in options.recipients for spec in local.recipients(f"To: {each}\r\n".encode("utf-8", "surrogateescape"))]
    recipients = list(dict.fromkeys((*named, *(local.recipients(content) if options.from_header else ()))))
    if not recipients:
        raise Failed(USAGE, "nobody to send to: name recipients, or give -t and a To, Cc or Bcc field")
    if len(recipients) > drop.RECIPIENTS:
        raise Failed(DATAERR, f"more than {drop.RECIPIENTS} recipients")
    user = login()
    sender = user if options.sender is None else options.sender.strip().removeprefix("<").removesuffix(">")
    told = Drop(sender, tuple(recipients), options.ret, options.envid.translate(XTEXT), options.notify)
    return deliver(data_dir(options), told, _completed(content, options.name, sender or user), options.verbose)


def login() -> str:
    """The name of the user who runs us, as the system knows it, whatever the environment says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid{os.getuid()}"


def _completed(content: bytes, name: str, author: str) -> bytes:
    """The message with a From field, and a key that makes a second hand-over harmless."""
    names = {field for field, _ in local.fields(content)}
    added = b""
    if not names & {b"x-relay-idempotency-key", b"x-poststack-idempotency-key"}:
        added += b"X-Relay-Idempotency-Key: sendmail-%s\r\n" % os.urandom(16).hex().encode()
    if b"from" not in names:
        added += f"From: {_phrase(name)}<{author}>\r\n".encode("utf-8", "surrogateescape") if name else f"From: {author}\r\n".encode("utf-8", "surrogateescape")
    if not names and not content.startswith(b"\r\n"):
        added += b"\r\n"  # a text without any header is all body
    return added + content


def _phrase(name: str) -> str:
    clean = "".join(c for c in name if c.isprintable()).replace("\\", "\\\\").replace('"', '\\"')
    if clean.isascii():
        return f'"{clean}" '
    from relay.mail.words import encode

    return f"{encode(name)} "


# Other modes


def speak(options: Options) -> int:
    """-bs: SMTP on standard input and output, one command at a time, so that a script may send its whole dialogue at once."""
    try:
        line = connected(data_dir(options) / SOCKET)
    except OSError:
        sys.stdout.write("421 4.3.2 the relay is not running, try again later\r\n")
        return TEMPFAIL
    with line, line.makefile("rwb", buffering=0) as relay:
        code = _pass_answer(relay)
        while code not in (b"", b"221", b"421") and (command := sys.stdin.buffer.readline(LONGEST)):
            relay.write(command)
            while code == b"354" and command.rstrip(b"\r\n") != b"." and (command := sys.stdin.buffer.readline(LONGEST)):
                relay.write(command)
            code = _pass_answer(relay)
    return OK if code else TEMPFAIL


def _pass_answer(relay: BinaryIO) -> bytes:
    """Pass one answer on; its code, b"" when the relay went away."""
    while octets := relay.readline(LONGEST):
        sys.stdout.buffer.write(octets)
        if octets[3:4] != b"-":
            break
    sys.stdout.buffer.flush()
    return octets[:3]


def show(options: Options) -> int:
    """-bp: what waits, as `relay queue list` says it."""
    config = ["--config", options.config] if options.config else []
    os.execv(sys.executable, [sys.executable, "-m", "relay", "queue", "list", *config])  # noqa: S606 - our own program


def nothing(_options: Options) -> int:
    """-bi, -q: Relay has no alias table and needs no push."""
    return OK


MODES = {"m": send, "s": speak, "p": show, "i": nothing, "q": nothing}

if __name__ == "__main__":
    sys.exit(main())
