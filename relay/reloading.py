"""SIGHUP: the new configuration where it can be used, the old one where it is wrong; workers are replaced one by one.

    await reload(relay)     of a relay.app.Relay that runs
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from relay import bounces, entrance, log, metrics, policy, settings, systemd
from relay.consent import Terms
from relay.delivery.route import Router
from relay.errors import RelayError
from relay.settings import Settings
from relay.smtp.auth import Guard

if TYPE_CHECKING:
    from relay.app import Relay

LOG = log.get("app")


async def reload(relay: Relay) -> None:
    """Everything that the new configuration asks for is built before anything is changed."""
    systemd.reloading()
    try:
        loaded = settings.load(relay.path, os.environ)
        fresh = settings.applied(relay.started_with, loaded)
        before = relay.tools.services
        tools = entrance.tools(fresh, relay.store, relay.secrets, relay.clock, before.counters, before.fetch)
        door = entrance.door(fresh, tools, relay.intake.commit, relay.maker, relay.intake.commit_each)
        copy = policy.load("policies.copy", fresh.policies.copy, tools.services)
        depart = policy.load("policies.attempt", fresh.policies.attempt, tools.services)
        router = Router(fresh, relay.resolver, relay.runner.shaping.provider)
        listeners = entrance.listeners(fresh, relay.desks[0], relay.maker, Guard(relay.clock))
        rules = bounces.read(fresh.suppress.rules)
        if entrance.INBOUND in relay.listeners:
            listeners[entrance.INBOUND] = entrance.inbound(
                fresh, tools, relay.store, relay.leader.forget, relay.maker, relay.listeners, relay.checks)
    except RelayError as error:
        LOG.error("reload refused, the old configuration goes on", error=error.text)
        metrics.CONFIG_RELOADS.labels("refused").inc()
    else:
        for desk in (*relay.desks, *([relay.api] if relay.api else [])):
            desk.door = door
        for name in listeners.keys() & relay.listeners.keys():
            relay.listeners[name].reconfigure(listeners[name].options)
        if entrance.INBOUND in listeners:
            relay.listeners[entrance.INBOUND].desk = listeners[entrance.INBOUND].desk
        _judge_by(relay, fresh, tools, rules)
        relay.runner.copy, relay.runner.depart = copy, depart
        relay.runner.reroute(router)
        relay.config, relay.tools, relay.door = fresh, tools, door
        log.start(fresh.log.level, fresh.log.format)
        live, fixed = settings.changed(relay.started_with, loaded)
        LOG.info("reloaded", changed=live, needs_restart=fixed)
        metrics.CONFIG_RELOADS.labels("ok").inc()
        metrics.CONFIG_EPOCH.set(relay.clock.now())
        await relay.fleet.replace(fresh.shutdown_timeout)
    systemd.notify("READY=1")


def _judge_by(relay: Relay, fresh: Settings, tools: entrance.Tools, rules: bounces.Rules) -> None:
    """API, pages, acts and the runner go by these from now on."""
    relay.control.settings, relay.control.rules, relay.people.services = fresh, rules, tools.services
    if relay.api:
        relay.api.services = tools.services
    relay.runner.outcomes.judge_by(rules, Terms.of(fresh.suppress))
