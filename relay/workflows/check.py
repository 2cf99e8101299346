"""All that is wrong with a workflow, named with its node, before it is activated.

    the shape of its graph ──► the trigger and every node's config ──► what they name: templates, topics, segments ──► each email, judged like a real copy

An email is checked as a broadcast is: a copy to its author's own address goes through the admit chain and is let go; domain, limits and rspamd say what they
would say to the first contact. Warnings stop nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from relay import copies
from relay.errors import Defer, Invalid, NotFound, Refuse, RelayError
from relay.fetch import local
from relay.mail import ids
from relay.store import templates
from relay.store.audience import segments, topics
from relay.store.engine import Store
from relay.store.templates import Template
from relay.store.workflows import workflows
from relay.store.workflows.workflows import Workflow
from relay.workflows import graph as graphs
from relay.workflows import letters, steps, triggers
from relay.workflows.graph import Fault, Graph
from relay.workflows.plan import graph_of
from relay.workflows.steps import Call, Change, Email
from relay.workflows.triggers import Wanted

if TYPE_CHECKING:
    from relay.submission import Door


PRIVATE = "url_private"


@dataclass(frozen=True, slots=True)
class Findings:
    errors: list[Fault]
    warnings: list[Fault]


@dataclass(frozen=True, slots=True)
class _Letter:
    node: str
    step: Email
    template: Template | None


async def findings(store: Store, door: Door | None, flow: Workflow, number: int, graph: Graph | None = None, *, private: bool = False) -> Findings:
    """What is wrong with a workflow; with another graph than its own, if one is given.

    door     None: without the look at its emails
    number   an id for the recipient of the check
    private  requests may go to private addresses
    """
    found, warnings, mail = await store.read(_looked, flow, graph)
    if private:
        found = [fault for fault in found if fault.code != PRIVATE]
    if door is not None:
        for each in mail:
            if (fault := await _judged(door, flow, each, number)) is not None:
                found.append(fault)
    return Findings(found, warnings)


def _looked(conn: Any, flow: Workflow, graph: Graph | None) -> tuple[list[Fault], list[Fault], list[_Letter]]:
    graph = graph or graph_of(workflows.graph(conn, flow.id, flow.version))
    errors: list[Fault] = []
    read = {}
    for node in graph.nodes.values():
        if node.kind in steps.STEPS:
            step, wrong = steps.read(node.kind, node.config)
            read[node.id] = step
            errors += [Fault("config", text, node.id, field) for field, text in wrong]
    bad = {fault.node for fault in errors}
    shape = list(graphs.faults(graph, {name: steps.branches(step) for name, step in read.items()}))
    what, wrong = triggers.read(flow.trigger, flow.config)
    at = graph.trigger.id if graph.trigger else ""
    begins = [Fault("trigger", text, at, f"trigger_config.{field}") for field, text in wrong] or list(_begins(conn, flow, what, at))
    mail: list[_Letter] = []
    for name, step in read.items():
        if name not in bad:
            errors += _named(conn, flow.project_id, name, step)
            if isinstance(step, Call):
                errors += _called(name, step)
            if isinstance(step, Email):
                errors += _letter(conn, flow, name, step, mail)
    return [*shape, *begins, *errors], list(graphs.unreached(graph)), mail


def _begins(conn: Any, flow: Workflow, what: Wanted, at: str) -> Iterator[Fault]:
    """What is wrong with what the trigger names."""
    if what.topic is not None and not _offers(conn, flow.project_id, what.topic):
        yield Fault("topic_missing", f"there is no topic {ids.public('top', what.topic)}", at, "trigger_config.topic_id")
    if what.segment is None:
        return
    segment = segments.find(conn, flow.project_id, what.segment)
    if segment is None:
        yield Fault("segment_missing", f"there is no segment {ids.public('seg', what.segment)}", at, "trigger_config.segment_id")
    elif what.edge and not segment.tracked:
        yield Fault("segment_untracked", f"the membership of {segment.name} is not tracked: set its track_membership to true", at, "trigger_config.segment_id")


def _named(conn: Any, project: int, node: str, step: Any) -> Iterator[Fault]:
    """What is wrong with the segments and topics that a step names."""
    for number in sorted(steps.segments(step)):
        segment = segments.find(conn, project, number)
        if segment is None:
            yield Fault("segment_missing", f"there is no segment {ids.public('seg', number)}", node)
        elif isinstance(step, Change) and segment.rules is not None:
            yield Fault("segment_dynamic", f"the members of {segment.name} follow from its rules, nobody can be put in or taken out", node)
    numbers = [step.topic] if isinstance(step, Email) and step.topic is not None else list(step.topics) if isinstance(step, Change) else []
    for number in numbers:
        if not _offers(conn, project, number):
            yield Fault("topic_missing", f"there is no topic {ids.public('top', number)}", node, "topic_id")


def _called(node: str, step: Call) -> Iterator[Fault]:
    """What is wrong with the host of a request as it is written; one that variables name is looked at when it is called."""
    try:
        host = urlsplit(step.url).hostname or ""
    except ValueError:  # with variables it may be no URL yet
        host = ""
    if host and "{{" not in host and local(host):
        text = f"{host} is not a public address; name a host of the internet, or let the operator set [webhooks] allow_private = true"
        yield Fault(PRIVATE, text, node, "url")


def _offers(conn: Any, project: int, topic: int) -> bool:
    """Whether the project has this topic."""
    try:
        topics.get(conn, project, topic)
    except NotFound:
        return False
    return True


def _letter(conn: Any, flow: Workflow, node: str, step: Email, mail: list[_Letter]) -> Iterator[Fault]:
    """What is wrong with the template; an email that can be judged goes to `mail`."""
    template = None
    try:
        if step.template is not None:
            template = templates.sent(conn, flow.project_id, step.template)
    except RelayError as error:
        yield Fault("template", error.text, node, "template_id")
        return
    mail.append(_Letter(node, step, template))


async def _judged(door: Door, flow: Workflow, each: _Letter, number: int) -> Fault | None:
    try:
        said = letters.letter(flow, each.step, each.template)
        octets = copies.build(said, said.address, each.step.variables)
        message = await copies.judge(door, flow.principal, said, copies.recipient(number, said.address), octets, "workflow")
        await door.let_go((message,))
    except (Refuse, Invalid) as error:
        return Fault("email", error.text, each.node, error.field if isinstance(error, Invalid) else "")
    except Defer:
        return None  # a limit that is reached now says nothing of later
    return None
