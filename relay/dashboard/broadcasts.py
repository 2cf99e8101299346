"""Broadcasts: written with a live preview, looked over before they leave (who gets it, how long it takes, what may keep it from the inbox), followed while they
run, and what came of them.

The parts that count an audience or ask a spam filter are fetched by the page once it is there; without scripts a link does the same.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from starlette.responses import Response

from relay.api import broadcasts, performance
from relay.api import preview as judging
from relay.api.mailing import BroadcastChange, BroadcastInput, ResendInput, TestMailInput, WhenInput
from relay.api.preview import PreviewInput
from relay.broadcasts import start
from relay.broadcasts.telling import STATES
from relay.dashboard import draft, preview
from relay.dashboard.visit import Visit, get, post
from relay.errors import RelayError
from relay.mail.mime import Texts
from relay.store.broadcasts import broadcasts as stored
from relay.store.broadcasts.broadcasts import OPEN, STATUSES

SEARCH = 200  # characters
ROWS = 50  # of the ledger on a page
PLACE = "/dashboard/broadcasts"


async def every(visit: Visit) -> Response:
    search, status = visit.asked("search")[:SEARCH], visit.asked("status")
    status = status if status in STATUSES else ""
    found = await broadcasts.list_broadcasts(visit.here, visit.who, visit.page(), search, status or None)
    return visit.show("broadcasts/list.html", **found, search=search, status=status, statuses=STATUSES)


async def new(visit: Visit) -> Response:
    """An empty form; `segment`, `template` and the like say what is chosen in it."""
    chosen = {f"{name}_id": visit.asked(name) or None for name in ("segment", "audience", "topic", "template")}
    return await _form(visit, {**draft.BLANK, **chosen, "from": await draft.latest_sender(visit)}, [])


async def create(visit: Visit) -> Response:
    async def made() -> Any:
        return await broadcasts.create_broadcast(visit.here, visit.who, BroadcastInput(**draft.said(visit)))

    return await _submitted(visit, draft.BLANK, made)


async def one(visit: Visit) -> Response:
    """A draft in its form; of one that was sent how far it is, and what came of it."""
    name = visit.number("broadcast_id")
    found = await broadcasts.get_broadcast(visit.here, visit.who, name)
    if found["status"] == "draft":
        return await _form(visit, found, (found["ab_test"] or {}).get("variants", []))
    told = await performance.get_performance(visit.here, visit.who, name)
    links = (await performance.list_links(visit.here, visit.who, name))["links"]
    return visit.show("broadcasts/one.html", broadcast=found, figures=told["broadcast"], told=told, links=links, open=found["status"] in OPEN,
                      whom=await _whom(visit, found), left=found["pending"] + found["queued"])


async def save(visit: Visit) -> Response:
    name = visit.number("broadcast_id")
    found = await broadcasts.get_broadcast(visit.here, visit.who, name)

    async def changed() -> Any:
        return await broadcasts.change_broadcast(visit.here, visit.who, name, BroadcastChange(**draft.said(visit)))

    return await _submitted(visit, found, changed)


async def _submitted(visit: Visit, broadcast: Any, act: Any) -> Response:
    """What the button of the form that was pressed does: save, save and go on to the review, or the form once more with other wordings."""
    error: RelayError | None = None
    if visit.given("do") in ("", "save", "review"):
        try:
            made = await act()
            place = f"{PLACE}/{made['id']}"
            return visit.go(f"{place}/review") if visit.given("do") == "review" else visit.go(place, "Saved as a draft.")
        except (RelayError, ValidationError) as wrong:
            error = visit.wrong(wrong)
    rows = draft.wordings(visit) if error else draft.pressed(visit)
    return await _form(visit, broadcast, rows, error, **draft.alone(visit))


async def _form(visit: Visit, broadcast: Any, wordings: list[dict[str, Any]], error: RelayError | None = None, **more: Any) -> Response:
    place = f"{PLACE}/{broadcast['id']}" if "id" in broadcast else f"{PLACE}/new"
    return visit.show("broadcasts/form.html", error=error, broadcast=broadcast, wordings=wordings, place=place, most=draft.WORDINGS,
                      **await draft.choices(visit, broadcast), **more)


async def review(visit: Visit) -> Response:
    """A draft before it leaves. `part` "people" counts them and forecasts, "check" asks the spam filter and looks for what may keep it from the inbox."""
    name, part = visit.number("broadcast_id"), visit.asked("part")
    found = await broadcasts.get_broadcast(visit.here, visit.who, name)
    people, checked, wrong = None, None, ""
    try:
        if part == "people":
            people = await performance.get_forecast(visit.here, visit.who, name)
        if part == "check":
            checked = await _checked(visit, name)
    except RelayError as error:
        wrong = error.text
    return visit.show("broadcasts/review.html", broadcast=found, whom=await _whom(visit, found), people=people, checked=checked, part=part, wrong=wrong)


async def _checked(visit: Visit, name: str) -> list[dict[str, Any]]:
    """What would be said of each wording: spam score, symbols and warnings, of the copy that the newest contact would get."""
    broadcast = await visit.here.store.read(stored.get, visit.who.project, broadcasts.number_of(name))
    found = []
    for each in await start.wording(visit.here.store, broadcast):
        start.sound(each.texts)
        seen = await preview.of(visit, each.texts)
        given = _content(broadcast.sender, seen.to or broadcast.sender, seen.texts)
        found.append({"name": each.name, "subject": seen.texts.subject, "missing": seen.missing, **await judging.preview_email(visit.here, visit.who, given)})
    return found


def _content(sender: str, to: str, texts: Texts) -> PreviewInput:
    return PreviewInput(**{"from": sender}, to=[to], subject=texts.subject[:998], html=texts.html, text=texts.text)


async def send(visit: Visit) -> Response:
    """Send it now, or at the time of the form, which is UTC."""
    name, at = visit.number("broadcast_id"), visit.given("scheduled_at")
    try:
        made = await broadcasts.send_broadcast(visit.here, visit.who, name, WhenInput(scheduled_at=at) if at else None)
    except (RelayError, ValidationError) as wrong:
        found = await broadcasts.get_broadcast(visit.here, visit.who, name)
        return visit.show("broadcasts/review.html", error=visit.wrong(wrong), broadcast=found, whom=await _whom(visit, found), people=None, checked=None,
                          part="", wrong="")
    return visit.go(f"{PLACE}/{name}", "It is scheduled." if made["status"] == "scheduled" else "It is on its way.")


async def forecast(visit: Visit) -> Response:
    """What is left of one that runs, and until when: a part of its page."""
    told = await performance.get_forecast(visit.here, visit.who, visit.number("broadcast_id"))
    return visit.show("broadcasts/forecast.html", told=told, place=f"{PLACE}/{visit.number('broadcast_id')}")


async def test(visit: Visit) -> Response:
    """One copy to an address."""
    name = visit.number("broadcast_id")
    try:
        given = TestMailInput(email=visit.given("email"), variant=visit.given("variant") or 1)
        made = await broadcasts.test_broadcast(visit.here, visit.who, name, given)
    except (RelayError, ValidationError) as wrong:
        found = await broadcasts.get_broadcast(visit.here, visit.who, name)
        return await _form(visit, found, (found["ab_test"] or {}).get("variants", []), visit.wrong(wrong))
    return visit.go(f"{PLACE}/{name}", f"A test copy for {given.email} is under way as {made['id']}.")


async def pause(visit: Visit) -> Response:
    await broadcasts.pause_broadcast(visit.here, visit.who, visit.number("broadcast_id"))
    return _back(visit, "Paused: nothing more of it leaves until it is resumed.")


async def resume(visit: Visit) -> Response:
    await broadcasts.resume_broadcast(visit.here, visit.who, visit.number("broadcast_id"))
    return _back(visit, "It goes on where it was.")


async def cancel(visit: Visit) -> Response:
    await broadcasts.cancel_broadcast(visit.here, visit.who, visit.number("broadcast_id"))
    return _back(visit, "Cancelled: nobody else gets it.")


async def decide(visit: Visit) -> Response:
    made = await broadcasts.end_ab_test(visit.here, visit.who, visit.number("broadcast_id"))
    return _back(visit, f"The test is over: the rest gets wording {made['ab_test']['winner']}.")


async def pace(visit: Visit) -> Response:
    """Another speed, also of one that runs."""
    await broadcasts.change_broadcast(visit.here, visit.who, visit.number("broadcast_id"), BroadcastChange(per_minute=draft.whole(visit, "per_minute")))
    return _back(visit, "The speed is changed.")


def _back(visit: Visit, said: str) -> Response:
    return visit.go(f"{PLACE}/{visit.number('broadcast_id')}", said)


async def duplicate(visit: Visit) -> Response:
    made = await broadcasts.duplicate_broadcast(visit.here, visit.who, visit.number("broadcast_id"))
    return visit.go(f"{PLACE}/{made['id']}", "This is the copy, a draft.")


async def resend(visit: Visit) -> Response:
    """A draft for those who did not open, or click."""
    given = ResendInput(target=visit.given("target"), subject=visit.given("subject") or None)
    made = await broadcasts.resend_broadcast(visit.here, visit.who, visit.number("broadcast_id"), given)
    return visit.go(f"{PLACE}/{made['broadcast']['id']}", f"A draft for {made['recipient_count']:,} people, kept as the segment {made['segment']['name']}.")


async def delete(visit: Visit) -> Response:
    await broadcasts.delete_broadcast(visit.here, visit.who, visit.number("broadcast_id"))
    return visit.go(PLACE, "The broadcast is deleted; sent mail stays.")


async def ledger(visit: Visit) -> Response:
    """Each contact of its audience, with what became of the copy."""
    name, state, cursor = visit.number("broadcast_id"), visit.asked("state"), visit.asked("cursor")
    state = state if state in (*STATES, "skipped") else ""
    found = await broadcasts.get_broadcast(visit.here, visit.who, name)
    rows = await broadcasts.list_recipients(visit.here, visit.who, name, state or None, ROWS, cursor or None)
    return visit.show("broadcasts/ledger.html", broadcast=found, rows=rows["recipients"], following=rows.get("next_cursor"), state=state,
                      states=(*STATES, "skipped"))


async def _whom(visit: Visit, broadcast: Any) -> str:
    """Its audience in words; a segment that is gone is named by its id."""
    offered = await draft.choices(visit, {**broadcast, "template_id": None})
    whom, topic = dict(offered["whom"]).get(offered["to"], ""), dict(offered["topics"]).get(broadcast["topic_id"], "")
    if not offered["to"]:
        return f"Everybody who gets {topic}" if broadcast["topic_id"] else ""
    return f"{whom}, without those who left {topic}" if broadcast["topic_id"] else whom


ROUTES = (
    get("/broadcasts", every), get("/broadcasts/new", new), post("/broadcasts/new", create), get("/broadcasts/{broadcast_id}", one),
    post("/broadcasts/{broadcast_id}", save), get("/broadcasts/{broadcast_id}/review", review), post("/broadcasts/{broadcast_id}/send", send),
    get("/broadcasts/{broadcast_id}/forecast", forecast), get("/broadcasts/{broadcast_id}/people", ledger), post("/broadcasts/{broadcast_id}/test", test),
    *(post(f"/broadcasts/{{broadcast_id}}/{act.__name__}", act) for act in (pause, resume, cancel, decide, pace, duplicate, resend, delete)),
)
