"""One transaction of runs: each goes on from its node as far as nothing outside is needed, with its history, its figures and what its steps change.

    run at a node ──► answer of the step ──► next node ──► ... ──► it waits, needs the engine (an email, a request), or has ended

A step that needs the engine comes here twice: the run stops before it, the engine does the work, and gives what came of it with the run: `Turn.done`. The
message of an email is written here, in the transaction that takes the run past its step: so it is sent once, whatever dies when.

Conditions are asked of all runs at the same node in one statement, by the compiler of segments. A run that was changed meanwhile (`visited`) is left alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from relay import templates
from relay.audience import contacts as acts
from relay.audience import segments as lists
from relay.audience.contacts import By
from relay.audience.grammars import read
from relay.clock import iso
from relay.consent import Act
from relay.copies import values
from relay.errors import Conflict, Invalid, NotFound
from relay.mail import ids
from relay.mail.ids import Maker
from relay.mail.message import Message
from relay.mail.mime import Texts
from relay.metrics import counter
from relay.store import bulk, faults, messages
from relay.store.audience import contacts
from relay.store.audience.contacts import Contact
from relay.store.audience.rules import Moment
from relay.store.workflows import counts, people, runs, workflows
from relay.store.workflows.hearing import CHANGED
from relay.store.workflows.runs import COMPLETED, ELSEWHERE, FAILED, MAIL, OWN, RUNNING, Run, Step
from relay.store.workflows.workflows import Workflow
from relay.workflows.plan import Plan, Plans
from relay.workflows.steps import MATCH, NO_MATCH, Call, Change, Decision, Delay, Email, Exit, ForEvent, Until

STEPS = counter("workflow_steps_total", "Steps of workflow runs, by kind and outcome", "kind", "outcome")
ENDED = counter("workflow_runs_ended_total", "Workflow runs that ended, by status", "status")

MOST = 1_000  # lines of a run's history, beyond which waits are not told again
SENT, SKIPPED, CALLED = "sent", "skipped", "called"


@dataclass(frozen=True, slots=True)
class Done:
    """What the engine did for a step.

    outcome  of the step: sent | skipped | called | failed
    branch   the answer that leads on
    message  the copy to write, of `stream` and `topic`: not to who wants none of it
    ends     the run has failed by this
    later    or: nothing happened, and the step is tried again then (UTC seconds)
    """

    outcome: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    branch: str | None = None
    message: Message | None = None
    stream: str = ""
    topic: int | None = None
    ends: bool = False
    later: float | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """A run that is to go on; `visited` as whoever asks has seen it."""

    run: int
    visited: int
    done: Done | None = None


@dataclass(frozen=True, slots=True)
class Tools:
    """What a transaction of runs needs: `secrets` as in settings.secret_key."""

    plans: Plans
    maker: Maker
    secrets: tuple[str, ...]


@dataclass(slots=True)
class Taken:
    """What came of it: messages to tell the queue of, recipients whose copies no longer wait, steps by kind and outcome, ends of runs by status."""

    accepted: list[Message] = field(default_factory=list)
    stopped: list[int] = field(default_factory=list)
    steps: Counter[tuple[str, str]] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)

    def count(self) -> None:
        """Add it to the metrics, once it is durable."""
        for labels, number in self.steps.items():
            STEPS.labels(*labels).inc(number)
        for status, number in self.ended.items():
            ENDED.labels(status).inc(number)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a step of our own says.

    branch  the answer that leads on
    until   the run waits here, until then at the latest (None = only for `awaits`)
    ends    the run ends with this status
    quiet   nothing new for the history
    """

    outcome: str
    detail: dict[str, Any] = field(default_factory=dict)
    branch: str | None = None
    waits: bool = False
    until: float | None = None
    awaits: str | None = None
    ends: str = ""
    quiet: bool = False
    reason: str = ""


def take(conn: Any, turns: Sequence[Turn], now: float, tools: Tools) -> Taken:
    """Take these runs on; those that changed since, ended or went with their contact are left out."""
    seen = {turn.run: turn for turn in turns}
    found = {number: run for number, run in runs.load(conn, list(seen)).items() if run.visited == seen[number].visited}
    taking = Taking(conn, now, tools, list(found.values()))
    taking.first({number: turn.done for number, turn in seen.items() if turn.done is not None and number in found})
    taking.onward()
    taking.write()
    return taking.taken


class Taking:
    """One transaction at work. `state` is each run as it will be written."""

    def __init__(self, conn: Any, now: float, tools: Tools, given: Sequence[Run]):
        self.conn, self.now, self.tools, self.taken = conn, now, tools, Taken()
        self.state = {run.id: run for run in given}
        self.moving = {run.id for run in given if run.due is not None and run.due <= now}
        self.lines: list[Step] = []
        self.figures: Counter[counts.Key] = Counter()
        self.flows: dict[int, Workflow] = workflows.among(conn, {run.workflow_id for run in given})
        self.people: dict[int, Contact] = {}
        for project in {run.project_id for run in given}:
            here = sorted({run.contact_id for run in given if run.project_id == project})
            for start in range(0, len(here), contacts.KEYS):
                self.people |= {each.id: each for each in contacts.by_ids(conn, project, here[start:start + contacts.KEYS])}

    def plan(self, run: Run) -> Plan:
        return self.tools.plans.get(self.conn, run.workflow_id, run.version)

    # What the engine brought.

    def first(self, done: dict[int, Done]) -> None:
        """Note what was done for these runs, with their messages, and let them go on."""
        refused = self._refused(done)
        kept = []
        for number, each in done.items():
            run = self.state[number]
            if each.later is not None:
                self.state[number] = replace(run, due=each.later, attempts=run.attempts + 1, reason=str(each.detail.get("reason", ""))[:200])
                self.moving.discard(number)
                continue
            if each.outcome == SENT and (why := refused.get(number)):
                each = Done(SKIPPED, {"reason": why})
            elif each.message is not None:
                kept.append(each.message)
            self._answered(run, Answer(each.outcome, each.detail, each.branch, ends=FAILED if each.ends else ""))
        messages.add_many(self.conn, kept)
        self.taken.accepted = kept
        faults.point("workflow.taken")

    def _refused(self, done: dict[int, Done]) -> dict[int, str]:
        """Which of these runs' contacts want no such mail, and why, read at this moment."""
        wanted: dict[tuple[int, str, int | None], list[Run]] = {}
        for number, each in done.items():
            if each.outcome == SENT:
                run = self.state[number]
                wanted.setdefault((run.project_id, each.stream, each.topic), []).append(run)
        found = {}
        for question, some in wanted.items():
            why = people.refusals(self.conn, *question, [run.contact_id for run in some])
            found |= {run.id: why[run.contact_id] for run in some if why.get(run.contact_id)}
        return found

    # Onward.

    def onward(self) -> None:
        """Every run as far as it comes."""
        while True:
            here = [self.state[number] for number in sorted(self.moving)]
            ready = [run for run in here if not self._halts(run)]
            if not ready:
                return
            answers = self._decided([run for run in ready if isinstance(self._step(run), Decision)])
            for run in ready:
                self._answered(run, answers[run.id] if run.id in answers else self._own(run))

    def _step(self, run: Run) -> Any:
        return self.plan(run).steps.get(run.node or "")

    def _halts(self, run: Run) -> bool:
        """Whether the run is at a step that needs the engine; then it waits its turn there."""
        step = self._step(run)
        if not isinstance(step, (Email, Call)):
            return False
        self.moving.discard(run.id)
        self.state[run.id] = replace(run, lane=ELSEWHERE if isinstance(step, Call) else MAIL)
        return True

    def _own(self, run: Run) -> Answer:
        """What a step that needs nothing outside says."""
        step = self._step(run)
        bulk.run(self.conn, "SAVEPOINT step")
        try:
            return _OWN[type(step)](self, run, step)
        except (Invalid, NotFound, Conflict) as error:
            bulk.run(self.conn, "ROLLBACK TO SAVEPOINT step")
            return Answer("failed", {"reason": error.text}, ends=FAILED)
        finally:
            bulk.run(self.conn, "RELEASE SAVEPOINT step")

    def _answered(self, run: Run, answer: Answer) -> None:
        """Write the answer down and move the run."""
        node = run.node or ""
        if not answer.quiet:
            kind = self.plan(run).graph.nodes[node].kind
            self.lines.append(Step(run.id, run.visited, node, kind, answer.outcome, answer.detail, self.now))
            self.figures[run.workflow_id, node, answer.outcome] += 1
            self.taken.steps[kind, answer.outcome] += 1
        visited = run.visited + (not answer.quiet)
        if answer.waits:
            self.moving.discard(run.id)
            self.state[run.id] = replace(run, due=answer.until, awaits=answer.awaits, heard=None, visited=visited, attempts=run.attempts + 1,
                                         reason=answer.reason[:200])
            return
        following = None if answer.ends else self.plan(run).graph.after(node, answer.branch)
        if following is not None:
            self.state[run.id] = replace(run, node=following, arrived_at=self.now, lane=OWN, due=self.now, awaits=None, heard=None, visited=visited,
                                         attempts=0, reason="")
            self.moving.add(run.id)
            return
        self._ended(replace(run, visited=visited), answer.ends or COMPLETED, str(answer.detail.get("reason", "")) if answer.ends else "")

    def _ended(self, run: Run, status: str, reason: str) -> None:
        self.moving.discard(run.id)
        self.state[run.id] = replace(run, status=status, node=None, due=None, awaits=None, heard=None, lane=OWN, reason=reason[:200], ended_at=self.now)
        self.figures[run.workflow_id, "", RUNNING] -= 1
        self.figures[run.workflow_id, "", status] += 1
        self.taken.ended[status] += 1

    # The steps.

    def _decided(self, here: Sequence[Run]) -> dict[int, Answer]:
        """Which branch each of these runs takes: one question for all at a node and a branch."""
        nodes: dict[tuple[int, int, str], list[Run]] = {}
        for run in here:
            nodes.setdefault((run.workflow_id, run.version, run.node or ""), []).append(run)
        found: dict[int, Answer] = {}
        for some in nodes.values():
            step, left = self._step(some[0]), list(some)
            for name, rule in step.branches:
                matching = people.among(self.conn, some[0].project_id, rule, [run.contact_id for run in left], self.now, read)
                found |= {run.id: Answer(name, {}, name) for run in left if run.contact_id in matching}
                left = [run for run in left if run.contact_id not in matching]
            found |= {run.id: Answer(NO_MATCH, {}, NO_MATCH) for run in left}
        return found

    def _delayed(self, run: Run, step: Delay) -> Answer:
        until = run.arrived_at + step.seconds
        if until <= self.now:
            return Answer("waited", {"until": iso(until)})
        return self._waits(run, until, {}, f"until {iso(until)}")

    def _waits(self, run: Run, until: float, detail: dict[str, Any], reason: str, awaits: str | None = None) -> Answer:
        """It stays here, which is noted unless the history has it already."""
        known = (run.attempts > 0 and run.reason == reason) or run.visited > MOST
        return Answer("waiting", {**detail, "until": iso(until)}, waits=True, until=until, awaits=awaits, quiet=known, reason=reason)

    def _until(self, run: Run, step: Until) -> Answer:
        """A date may move while a run waits for it: every change of the contact is a reason to look at it again."""
        named = ".".join(step.path)
        date = moment(self.people[run.contact_id].properties, step.path)
        if date is None:
            return Answer("missing", {"property": named, "reason": f"the contact has no date {named}"}, ends=COMPLETED if step.leave else "")
        until = date.start + step.offset
        if until <= self.now:
            return Answer("waited", {"property": named, "until": iso(until)})
        return self._waits(run, until, {"property": named}, f"{named}: until {iso(until)}", CHANGED)

    def _awaited(self, run: Run, step: ForEvent) -> Answer:
        until = run.arrived_at + step.timeout
        if run.heard is not None:
            return Answer("event", {"event": step.name, "id": ids.public("evt", run.heard["id"]), "at": iso(run.heard["at"])}, MATCH)
        if until <= self.now:
            return Answer("timeout", {"event": step.name, "until": iso(until)}, NO_MATCH)
        return self._waits(run, until, {"event": step.name}, f"{step.name}, or until {iso(until)}", step.name)

    def _changed(self, run: Run, step: Change) -> Answer:
        flow, contact = self.flows[run.workflow_id], self.people[run.contact_id]
        by = By(run.project_id, Act("workflow", at=self.now, more={"workflow": flow.public_id, "run": run.public_id}), self.tools.maker, self.tools.secrets)
        detail: dict[str, Any] = {}
        if step.fields:
            result = acts.change(self.conn, run.contact_id, filled(step.fields, context(flow, run, contact)), by)
            self.taken.stopped += result.stopped
            self.people[run.contact_id] = result.contact
            detail["changed"] = sorted(step.fields)
        for topic, wanted in step.topics.items():
            self.taken.stopped += acts.subscribe(self.conn, run.contact_id, topic, wanted, by)[1]
            detail.setdefault("topics", {})[ids.public("top", topic)] = wanted
        for name, number, act in (("added_to", step.put, lists.put), ("removed_from", step.take, lists.take)):
            if number is not None:
                act(self.conn, run.project_id, number, [run.contact_id], self.now)
                detail[name] = ids.public("seg", number)
        self.people[run.contact_id] = contacts.get(self.conn, run.project_id, run.contact_id)
        return Answer("changed", detail)

    def _left(self, run: Run, step: Exit) -> Answer:
        return Answer("exit", {"reason": step.reason or "exit"}, ends=COMPLETED)

    # Writing.

    def write(self) -> None:
        """What became of the runs, in the transaction's tables."""
        runs.save(self.conn, list(self.state.values()))
        runs.note(self.conn, self.lines)
        counts.add(self.conn, self.figures)


_OWN: dict[type, Callable[[Taking, Run, Any], Answer]] = {
    Delay: Taking._delayed, Until: Taking._until, ForEvent: Taking._awaited, Change: Taking._changed, Exit: Taking._left,
    type(None): lambda _taking, run, _step: Answer("failed", {"reason": f"the step {run.node} cannot be read"}, ends=FAILED)}


# Values of a contact.


def moment(properties: dict[str, Any], path: Sequence[str]) -> Moment | None:
    """The date at a path of the properties, or at the property that has the whole path as its name."""
    found: Any = properties.get(".".join(path))
    if found is None:
        found = properties
        for part in path:
            found = found.get(part) if isinstance(found, dict) else None
    return Moment.read(found) if isinstance(found, str) and len(found) <= 40 else None


def context(flow: Workflow, run: Run, contact: Contact) -> dict[str, Any]:
    """The variables of a run's texts: the contact's, and `event`, `workflow`, `run`."""
    said = run.event.get("data") or {}
    inner = said.get("data")
    event = {**said, **(inner if isinstance(inner, dict) else {}), "name": run.event.get("type", "")}
    known, own = values(contact), {"id": run.public_id, "started_at": iso(run.started_at), "startedAt": iso(run.started_at)}
    person = {**known["contact"], "data": contact.properties, "subscribed": not contact.unsubscribed}
    return {**known, "contact": person, "event": event, "workflow": {"id": flow.public_id, "name": flow.name}, "run": own, "execution": own}


def filled(given: Any, variables: dict[str, Any]) -> Any:
    """A value with the variables in all its texts; raises Invalid for a text that cannot be rendered."""
    if isinstance(given, str):
        return templates.render(Texts("", None, given), variables).text if "{" in given else given
    if isinstance(given, dict):
        return {name: filled(each, variables) for name, each in given.items()}
    return [filled(each, variables) for each in given] if isinstance(given, list) else given
