"""/p/TOKEN: what somebody gets, topic by topic. The token is that of the unsubscribe link, /u/TOKEN, which leads here.

    GET  /p/TOKEN   200 the topics of the project and whether they get each; never acts
    POST /p/TOKEN   200 done, and the page as it is now; `act` is save | leave | return | snooze | wake

A form says which topics it showed (`shown`) and which are ticked (`topic`); one that was made in between is not touched. A snooze says for how long (`for`, of
LENGTHS). All that one POST changes is one transaction of relay.consent.choices. 410 expired, 404 not ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from relay.consent import choices
from relay.consent.choices import Choices
from relay.schedule import DAY
from relay.store.audience.topics import Topic
from relay.web import pages, people
from relay.web.people import People

SOURCE = "preferences"
SAVE, LEAVE, RETURN, SNOOZE, WAKE = "save", "leave", "return", "snooze", "wake"
LENGTHS = {"2w": 14 * DAY, "1m": 30 * DAY, "6m": 182 * DAY, "1y": 365 * DAY}


@dataclass(frozen=True, slots=True)
class Preferences:
    """The two routes."""

    people: People

    def routes(self) -> list[Route]:
        return [Route("/p/{token}", self.people.guarded(self.show), methods=["GET"]),
                Route("/p/{token}", self.people.guarded(self.post), methods=["POST"])]

    async def show(self, request: Request, number: int) -> Response:
        return await self._page(request, await self.people.store.read(choices.current, number))

    async def post(self, request: Request, number: int) -> Response:
        content = await people.body(request)
        given = people.fields(content or b"")
        wanted = given.get("act", [""])[0]
        if content is None or wanted not in (SAVE, LEAVE, RETURN, SNOOZE, WAKE) or (wanted == SNOOZE and _length(given) is None):
            return people.sorry(request, "later", 400)
        await self._done(request, number, wanted, given)
        return await self._page(request, await self.people.store.read(choices.current, number), "saved")

    async def _done(self, request: Request, number: int, wanted: str, given: people.Fields) -> None:
        act, store, maker = self.people.act(request, SOURCE), self.people.store, self.people.maker
        stopped: tuple[int, ...] = ()
        if wanted == RETURN:
            await store.write(choices.come_back, number, act)
        elif wanted == WAKE:
            await store.write(choices.wake, number, act)
        elif wanted == SNOOZE:
            stopped = await store.write(choices.snooze, number, act.at + (_length(given) or 0.0), act, maker)
        elif wanted == LEAVE:
            stopped = await store.write(choices.leave_everything, number, self.people.native, act, maker)
        else:
            ticked = set(given.get("topic", ()))
            stopped = await store.write(choices.choose, number, {name: name in ticked for name in given.get("shown", ())}, act, maker)
        self.people.acted(stopped)

    async def _page(self, request: Request, now: Choices, news: str = "") -> Response:
        sender = await self.people.sender(now.addressee)
        said, path, address = pages.words(sender.language), f"/p/{request.path_params['token']}", now.addressee.address
        body = pages.paragraph(said[news], "status") if news else ""
        if now.blocked:
            body += pages.paragraph(said["blocked"].format(address=address), "alert")
        if now.out:
            body += pages.paragraph(said["none"].format(address=address)) + pages.form(path, said["back"], fields=_hidden("act", RETURN))
        else:
            if now.topics:
                body += pages.form(path, said["save"], fields=_hidden("act", SAVE) + _topics(said["which"].format(address=address), now))
            body += pages.form(path, said["everything"], quiet=bool(now.topics), fields=_hidden("act", LEAVE)) + _rest(path, said, now)
        return pages.page(sender.language, said["preferences"], body, pages.footer(sender))


def _hidden(name: str, value: str) -> str:
    return f'<input type="hidden" name="{name}" value="{escape(value)}">'


def _length(given: people.Fields) -> float | None:
    """Seconds that a snooze is to last."""
    return LENGTHS.get(given.get("for", [""])[0])


def _rest(path: str, said: dict[str, str], now: Choices) -> str:
    """To get nothing for a while, or the end of that."""
    if now.asleep is not None:
        until = datetime.fromtimestamp(now.asleep, UTC).date().isoformat()
        return pages.paragraph(said["snoozed"].format(address=now.addressee.address, date=until)) + pages.form(
            path, said["wake"], quiet=True, fields=_hidden("act", WAKE))
    lengths = "".join(f'<option value="{name}">{escape(said[name])}</option>' for name in LENGTHS)
    asked = f'<label>{escape(said["snooze_for"])}<select name="for">{lengths}</select></label>'
    return pages.form(path, said["snooze"], quiet=True, fields=_hidden("act", SNOOZE) + asked)


def _topics(question: str, now: Choices) -> str:
    return f"<fieldset><legend>{escape(question)}</legend>{''.join(_box(topic, wanted) for topic, wanted in now.topics)}</fieldset>"


def _box(topic: Topic, wanted: bool) -> str:
    about = f"<small>{escape(topic.description)}</small>" if topic.description else ""
    ticked = " checked" if wanted else ""
    return (f'{_hidden("shown", topic.public_id)}<label class="beside"><input type="checkbox" name="topic" value="{topic.public_id}"{ticked}>'
            f"{escape(topic.name)}{about}</label>")
