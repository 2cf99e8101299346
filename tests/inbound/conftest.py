"""A relay on each database that takes mail to us on a port of its own; what it sends arrives in a sink, whose mail the tests send back."""

import smtplib

import pytest
import trustme

from tests.support import fixtures
from tests.support.databases import DATABASES
from tests.support.dns import DnsServer
from tests.support.ports import free_port
from tests.support.served import Served

tenant = fixtures.tenant


class Receiving(Served):
    """`with relay.dial() as line:` speaks to the inbound listener; what it asks DNS for is in `relay.dns.zones`."""

    def __init__(self, directory, store_url, **options):
        self.inbound_port = free_port()
        pem = directory / "relay.test.pem"
        trustme.CA().issue_cert("relay.test").private_key_and_cert_chain_pem.write_to_path(str(pem))
        tls = {"RELAY_SMTP__TLS_CERT": str(pem), "RELAY_SMTP__TLS_KEY": str(pem)}
        self.dns = DnsServer().start()
        super().__init__(directory, store_url, RELAY_SMTP__INBOUND=f"127.0.0.1:{self.inbound_port}", RELAY_DNS__NAMESERVERS=f'["{self.dns.address}"]',
                         **tls, **options)

    async def shut(self):
        await super().shut()
        self.dns.stop()

    def dial(self):
        return smtplib.SMTP("127.0.0.1", self.inbound_port, "far.test", timeout=60)

    def post(self, to, content=b"", sender=""):
        """The answer to the final dot, or raises smtplib's refusal."""
        with self.dial() as line:
            line.ehlo()
            for answer in (line.mail(sender), *(line.rcpt(each) for each in ([to] if isinstance(to, str) else to))):
                if answer[0] != 250:
                    raise smtplib.SMTPResponseException(*answer)
            return line.data(content)


def receiving(request, directory, **options):
    """A relay on the database that the fixture's parameter names."""
    return fixtures.serving(request, directory, Receiving, **options)


@pytest.fixture(scope="package", params=DATABASES)
def served(request, tmp_path_factory):
    with receiving(request, tmp_path_factory.mktemp(f"inbound-{request.param}")) as relay:
        yield relay
