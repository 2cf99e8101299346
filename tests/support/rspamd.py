"""A real rspamd with Debian's rules, on a free port, that asks no DNS and writes only to a directory of the test."""

import signal
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from tests.support.peers import need
from tests.support.ports import free_port

OPTIONS = """
control_socket = "{dir}/control.sock mode=0600";
tempdir = "{dir}";
url_tld = "{dir}/tld.dat";       # the real list takes rspamd ten seconds to compile
disable_hyperscan = true;
dns {{ nameserver = ["127.0.0.1:{silent}"]; timeout = 0.02s; retransmits = 1; }}
"""

# A rule whose weight is known, so that no test hangs on what Debian's rules make of a message or on how fast a lookup fails.
RULE = """
config['regexp']['TEST_SUSPICIOUS'] = { re = 'Subject=/suspicious/i{header}', score = 7.0, description = 'a rule of the tests', group = 'test' }
"""


@contextmanager
def rspamd(directory: Path, milter: int | None = None):
    """Runs it; gives its URL and its process. `milter` is a port where it speaks Sendmail's milter protocol too."""
    program, port = need("rspamd"), free_port()
    local = directory / "local.d"
    local.mkdir(parents=True)
    directory.chmod(0o777)
    (directory / "tld.dat").write_text("com\norg\nexample\n")
    (directory / "rspamd.local.lua").write_text(RULE)
    (local / "options.inc").write_text(OPTIONS.format(dir=directory, silent=free_port()))
    (local / "worker-normal.inc").write_text(f'bind_socket = "127.0.0.1:{port}"; count = 1;')
    (local / "logging.inc").write_text('type = "console";')
    for name in ("controller", "proxy", "fuzzy"):
        (local / f"worker-{name}.inc").write_text("enabled = false;")
    if milter:
        (local / "worker-proxy.inc").write_text(
            f'bind_socket = "127.0.0.1:{milter}"; count = 1; upstream "local" {{ default = yes; hosts = "127.0.0.1:{port}"; }}')
    words = [f"--var={name}={directory}" for name in ("LOCAL_CONFDIR", "DBDIR", "LOGDIR", "RUNDIR")]
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen([program, "-f", "-i", *words], stdout=log, stderr=log)
    try:
        _until_up(f"http://127.0.0.1:{port}", process, directory / "log")
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(150)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_up(url, process, log):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/ping", timeout=1).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise AssertionError(f"rspamd did not start: {log.read_text(errors='replace')[-2000:]}")
