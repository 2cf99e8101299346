"""Relay: a self-hosted mail relay with its audience inside. This page is the map.

Read in this order; each file says in its docstring what it promises and which RFC it follows.

    mail/message      the Message and its parts, frozen           mail/header, mail/address, mail/reply      what they are made of
    smtp/engine       the SMTP conversation, octets in, lines out  smtp/server    the listener around it      smtp/desk    whom it asks
    desks             the submission desk                          submission     the door: parse, admit chain, commit, Receipt
    policy            what a policy is and how a chain runs        policies/*     the policies themselves
    scoring           rspamd, asked at the door and about mail to domains
    store/engine      one writer, group commit, two databases      store/queue    what a crash at any point leaves
    queue/runner      what is due, fair turns, couriers            delivery/connect, smtp/client   one attempt
    queue/settle      what an outcome means for the recipient      queue/reports  DSNs, which enter at the door again
    control           every act of the CLI and the API             app            where all of it is put together
    inbound/received, inbound/reports   mail to domains, and what receivers report about them
    inbound/desk      mail to us, by address                       inbound/returning  bounces and complaints, whose they are, what they change
    web/people        pages behind links in mail                   audience/signups  people who sign up by a form
    workflows/engine  from event to step to step                   workflows/advance    one transaction of runs
    news              one look at the store for all who follow it  reloading       what SIGHUP changes
    broadcasts/feeder a letter to many, each once                  copies         a letter made for its reader, and its way in
    api/compat        Plunk's and PostStack's words for the native API
    handover, worker  submission processes (`--workers N`)         fleet, nursery their keeper, and what they are forked from
    metrics           every series, and how workers' add up        census         what is counted now and then

A message's way:

    smtp/server ──┐
    sendmail ─────┤                the door                 waiting                leaving                   after
    api/emails ───┼─► submission.submit ─► store/messages ─► queue/runner ─► delivery/connect ─► queue/settle ─► events ─► webhooks
    broadcasts ───┤     admit chain         (on disk,         copy chain       depart chain        schedule
    workflows ────┘                         then 250/202)                      smtp/client         reports (DSN)

Layers; a module imports its own room and lower numbers (tests/test_layers.py):

    0 mail errors clock log metrics kinds      1 smtp store settings fetch schedule shaping bounces delivery/dns
    2 policy events templates delivery         3 submission consent       4 queue inbound audience webhooks
    5 control        6 api web cli   7 dashboard   8 app and what it starts

Glossary, closed: Message, Recipient, Reply, Outcome, Receipt, Event, Principal, Project, Attempt, Site, Route, TlsRule, Lease, Contact, Segment, Topic,
Suppression, Broadcast, Workflow, Domain, Key, Template, Webhook, Audience, Copy, Body.
"""

from __future__ import annotations

__version__ = "0.1.0"
