"""Django's own mail: send_django.py HOST PORT USER KEY FROM TO CA_FILE; prints the message as it went out."""

import os
import sys

host, port, user, key, sender, to, authority = sys.argv[1:]
os.environ["SSL_CERT_FILE"] = authority

from django.conf import settings  # noqa: E402 - the authority first

settings.configure(EMAIL_HOST=host, EMAIL_PORT=int(port), EMAIL_HOST_USER=user, EMAIL_HOST_PASSWORD=key, EMAIL_USE_TLS=True, EMAIL_TIMEOUT=30)

from django.core.mail import EmailMultiAlternatives  # noqa: E402 - the settings first


class Mail(EmailMultiAlternatives):
    def message(self, *args, **kwargs):
        self.made = super().message(*args, **kwargs)
        return self.made


mail = Mail("Grüße from Django", "Hallo Jörg,\n.\n..two dots\n", f"App <{sender}>", [to])
mail.attach_alternative("<p>Hallo Jörg</p>", "text/html")
mail.attach("note.txt", "an attachment\n", "text/plain")
assert mail.send() == 1
sys.stdout.buffer.write(mail.made.as_bytes(linesep="\r\n"))
