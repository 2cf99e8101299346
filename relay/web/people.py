"""What pages behind a link in a mail share: whom the link names, who acts, and what is said about links that are wrong or too old.

A link is worth what its token is: forged 404, expired 410 with a button that mails a fresh one (relay.web.fresh). Nothing on a page needs a cookie; the token
is what nobody else can have, so there is nothing for another site to forge a request with.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response

from relay.audience.contacts import forgetful
from relay.consent import Act
from relay.errors import Expired, NotFound, RelayError
from relay.mail.ids import Maker
from relay.mail.tokens import ID, UNSUBSCRIBE, unpack
from relay.policy import Sender, Services
from relay.store import recipients
from relay.store.engine import Store
from relay.store.recipients import Addressee
from relay.web import pages

if TYPE_CHECKING:
    from relay.submission import Door

FORM = 64_000  # octets of a form's body: 500 topics, each named twice
FIELDS = 2_000

Fields = dict[str, list[str]]
Page = Callable[[Request, int], Awaitable[Response]]


@dataclass(slots=True)
class People:
    """What the pages need of a relay.

    services  SIGHUP puts new ones here
    door      gives the door of now: SIGHUP makes a new one
    forget    tells the runner whose copies no longer wait
    occurred  tells the webhooks task that there are events
    """

    store: Store
    services: Services
    maker: Maker
    door: Callable[[], Door]
    forget: Callable[[Iterable[int]], None]
    occurred: Callable[[], None]

    @property
    def native(self) -> str:
        """What an unsubscribe from everything stops: "all" | "marketing"."""
        return str(self.services.settings.suppress.unsubscribe)

    def guarded(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        """The route of a page about the recipient that the token names, with what is wrong with a link said on a page."""

        async def route(request: Request) -> Response:
            try:
                return await page(request, _number(self.services.tokens.read(UNSUBSCRIBE, request.path_params["token"])))
            except Expired:
                return await self.expired(request)
            except NotFound:
                return sorry(request, "unknown", 404)
            except RelayError:
                return sorry(request, "later", 503)

        return route

    async def named(self, request: Request) -> Addressee:
        """Whom the token names or, when its time is over, named; raises NotFound when it is forged or the ledger no longer has them."""
        number = _number(self.services.tokens.lapsed(UNSUBSCRIBE, request.path_params["token"]))
        return await self.store.read(recipients.get, number)

    async def expired(self, request: Request) -> Response:
        """The page of a link whose time is over. It does not say whose it was: the link may be in anybody's hands by now."""
        try:
            addressee = await self.named(request)
        except NotFound:
            return sorry(request, "expired", 410, "newer")
        sender = await self.sender(addressee)
        said = pages.words(sender.language)
        body = pages.paragraph(f"{said['expired']} {said['newer']}") + pages.form(f"/u/{request.path_params['token']}/fresh", said["fresh"])
        return pages.page(sender.language, said["title"], body, pages.footer(sender), 410)

    async def sender(self, addressee: Addressee) -> Sender:
        """Who writes to them, in their language."""
        return await self.services.senders.of(addressee.project_id, addressee.key) if self.services.senders else Sender()

    def act(self, request: Request, source: str) -> Act:
        """Their act, for the evidence."""
        forgotten = tuple(forgetful(self.services.tokens.secrets))  # type: ignore[attr-defined]
        return Act(source, client(request), request.headers.get("user-agent", ""), self.services.clock.now(), forgotten=forgotten)

    def acted(self, stopped: Iterable[int]) -> None:
        """Their act has committed, and these recipients' copies no longer wait."""
        self.forget(stopped)
        self.occurred()


def _number(data: bytes) -> int:
    """The recipient's id; raises NotFound."""
    if len(data) < ID:
        raise NotFound("this link is not one of ours")
    return unpack(data)[0]


def client(request: Request) -> str:
    """The IP address, "" if unknown."""
    return request.client.host if request.client else ""


async def body(request: Request, most: int = FORM) -> bytes | None:
    """The request's body, None when it has more than `most` octets; what is beyond is not kept."""
    kept = bytearray()
    async for piece in request.stream():
        kept += piece[:most + 1 - len(kept)]
    return bytes(kept) if len(kept) <= most else None


def fields(content: bytes) -> Fields:
    """The fields of a posted form, in UTF-8; none for what is no form."""
    try:
        return parse_qs(content.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=FIELDS)
    except ValueError:
        return {}


def sorry(request: Request, what: str, status: int, more: str = "") -> Response:
    """A page that knows nothing but the visitor's language; `what` and `more` are keys of relay.words."""
    language = pages.spoken(request.headers.get("accept-language", ""))
    said = pages.words(language)
    text = f"{said[what]} {said[more]}" if more else said[what]
    return pages.page(language, said["title"], pages.paragraph(text), status=status)
