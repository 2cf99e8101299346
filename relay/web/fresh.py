"""POST /u/TOKEN/fresh: a link whose time is over is answered with a new one, by mail to the address that it was sent to and to no other.

Nothing else happens: the old link proves too little to act on. The letter is mail of the same topic and stream as the one that brought the link, so its
link leaves the same thing, lives as long as any, and goes to nobody who has left already.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from relay import log
from relay.audience import letters
from relay.audience.letters import Letter
from relay.errors import Expired, NotFound, Refuse, RelayError
from relay.mail import mailbox
from relay.mail.message import MARKETING, Principal, Wishes
from relay.mail.tokens import UNSUBSCRIBE
from relay.metrics import counter
from relay.store import recipients
from relay.store.recipients import Addressee
from relay.templates import LATER
from relay.web import pages
from relay.web.people import People, client, sorry

DAY = 86_400.0
EACH = 3  # letters a day to one address: enough for who lost one, too few to annoy somebody with
CALLER = 50  # a day asked for from one IP address, behind which there may be an office

LOG = log.get("fresh")
ASKED = counter("fresh_links_total", "Fresh unsubscribe links asked for, by what came of it", "result")


@dataclass(frozen=True, slots=True)
class Fresh:
    """The route."""

    people: People

    def routes(self) -> list[Route]:
        return [Route("/u/{token}/fresh", self.asked, methods=["POST"])]

    async def asked(self, request: Request) -> Response:
        """303 while the link still works, 202 the letter is on its way, 429 asked too often, 404 forged."""
        token = request.path_params["token"]
        try:
            self.people.services.tokens.read(UNSUBSCRIBE, token)
            return RedirectResponse(f"/u/{token}", 303)
        except Expired:
            pass
        except NotFound:
            return sorry(request, "unknown", 404)
        try:
            addressee = await self.people.named(request)
            return await self._answer(request, addressee)
        except NotFound:
            return sorry(request, "expired", 410, "newer")
        except RelayError as error:
            LOG.warning("a fresh link was not sent", error=error.text)
            return sorry(request, "later", 503)

    async def _answer(self, request: Request, addressee: Addressee) -> Response:
        wait = await self._room(request, addressee)
        if wait:
            ASKED.labels("limited").inc()
            answer = sorry(request, "often", 429)
            answer.headers["Retry-After"] = str(int(wait) + 1)
            return answer
        ASKED.labels("sent" if await self._sent(addressee) else "refused").inc()
        sender = await self.people.sender(addressee)
        said = pages.words(sender.language)
        return pages.page(sender.language, said["title"], pages.paragraph(said["mailed"], "status"), pages.footer(sender), 202)

    async def _room(self, request: Request, addressee: Addressee) -> float:
        """0.0, or the seconds until another may be asked for."""
        counters = self.people.services.counters
        whose = hashlib.sha256(addressee.key.encode()).hexdigest()[:32]
        return await counters.take(f"fresh:from:{client(request)}", CALLER, DAY) or await counters.take(f"fresh:{addressee.project_id}:{whose}", EACH, DAY)

    async def _sent(self, addressee: Addressee) -> bool:
        """Whether a letter is on its way; who may not be mailed gets none, and the visitor is not told which it was."""
        sender = await self.people.sender(addressee)
        said = pages.words(sender.language)
        author = mailbox.mailboxes(await self.people.store.read(recipients.author, addressee))[0]
        letter = Letter(said["fresh_subject"], said["fresh_text"], LATER["unsubscribe_url"], said["act"], said["unasked"])
        everything = bool(addressee.wishes.get("unsubscribe"))
        wishes = Wishes(topic=addressee.topic, unsubscribe=everything, opens=False, clicks=False,
                        stream=addressee.stream if everything or addressee.topic else MARKETING)
        who = Principal("key", addressee.project_id, name="fresh link", mode="test" if addressee.test else "live")
        spec = f"{author.address.rpartition('@')[0]}@{author.domain}"
        try:
            content = letters.octets(letter, sender, spec, addressee.address)
            return await letters.post(self.people.door(), who, self.people.maker, spec, addressee.address, content, wishes)
        except Refuse as refusal:
            LOG.info("a fresh link was refused", project=addressee.project_id, reply=str(refusal.reply))
            return False
