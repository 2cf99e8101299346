"""The table of acts: the name that the command line, the socket and the API use, the function, and whether it only reads."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from relay.control import Control, bounces, broadcasts, contacts, domains, explain, keeping, keys, queue, suppress, users, workflows
from relay.errors import Invalid


@dataclass(frozen=True, slots=True)
class Act:
    """`run(control, **arguments)`; `reads`: it changes nothing."""

    run: Callable[..., Awaitable[Any]]
    reads: bool = False


ACTS: dict[str, Act] = {
    "project_create": Act(keys.create_project),
    "project_list": Act(keys.every_project, reads=True),
    "key_create": Act(keys.create),
    "key_list": Act(keys.every, reads=True),
    "key_revoke": Act(keys.revoke),
    "key_rotate": Act(keys.rotate),
    "key_restrict": Act(keys.restrict),
    "user_add": Act(users.add),
    "user_list": Act(users.every, reads=True),
    "user_password": Act(users.set_password),
    "user_remove": Act(users.remove),
    "domain_add": Act(domains.add),
    "domain_list": Act(domains.every, reads=True),
    "domain_show": Act(domains.get, reads=True),
    "domain_verify": Act(domains.verify),
    "domain_set": Act(domains.configure),
    "domain_remove": Act(domains.remove),
    "domain_rotate": Act(domains.rotate),
    "domain_activate": Act(domains.activate),
    "domain_cancel": Act(domains.cancel),
    "queue_list": Act(queue.every, reads=True),
    "queue_show": Act(queue.show, reads=True),
    "queue_retry": Act(queue.retry),
    "queue_hold": Act(queue.hold),
    "queue_release": Act(queue.release),
    "queue_cancel": Act(queue.cancel),
    "site_list": Act(queue.every_site, reads=True),
    "site_suspend": Act(queue.suspend),
    "site_resume": Act(queue.resume),
    "explain": Act(explain.explain, reads=True),
    "backup": Act(keeping.backup, reads=True),
    "schema": Act(keeping.schema, reads=True),
    "status": Act(keeping.status, reads=True),
    "suppress_add": Act(suppress.add),
    "suppress_remove": Act(suppress.remove),
    "suppress_list": Act(suppress.every, reads=True),
    "suppress_import": Act(suppress.take_in),
    "suppress_undo": Act(suppress.undo),
    "bounces_replay": Act(bounces.replay),
    "contacts_import": Act(contacts.take_in),
    "contacts_import_show": Act(contacts.show, reads=True),
    "contacts_import_errors": Act(contacts.errors, reads=True),
    "contacts_import_undo": Act(contacts.undo),
    "contacts_rows": Act(contacts.rows),
    "broadcast_list": Act(broadcasts.every, reads=True),
    "broadcast_show": Act(broadcasts.show, reads=True),
    "broadcast_forecast": Act(broadcasts.forecast, reads=True),
    "broadcast_send": Act(broadcasts.send),
    "broadcast_pause": Act(broadcasts.pause),
    "broadcast_resume": Act(broadcasts.resume),
    "broadcast_cancel": Act(broadcasts.cancel),
    "workflow_list": Act(workflows.every, reads=True),
    "workflow_show": Act(workflows.show, reads=True),
    "workflow_runs": Act(workflows.every_run, reads=True),
    "workflow_simulate": Act(workflows.simulate),
    "workflow_pause": Act(workflows.pause),
    "workflow_stop": Act(workflows.stop),
}


async def perform(control: Control, name: str, arguments: Mapping[str, Any]) -> Any:
    """What `name` gives; raises Invalid for an act or argument that does not exist, and what the act raises."""
    act = ACTS.get(name)
    if act is None:
        raise Invalid("act", f"there is no act {name}; this relay knows {', '.join(sorted(ACTS))}")
    try:
        inspect.signature(act.run).bind(control, **arguments)
    except TypeError as error:
        raise Invalid("arguments", f"{name}: {error}") from error
    return await act.run(control, **arguments)
