"""Policies: what happens to a message at the door, when a copy is due, and just before it leaves.

    admit    headers      complete it (RFC 6409 §8)                    copy    unsubscribe  RFC 8058 pair and footer, one copy each
             authorize    may this credential use this From?                   track        links and pixel
             suppress     nobody who must not be mailed                depart  suppress     consent as it is now
             limit        so many an hour or a day                             dkim         sign and seal
             rspamd       score once

Each is a file with `make(options, services)`, named in relay.toml by its dotted path; relay/policy.py says what a policy is and what it may use. To add one: a
file here or anywhere importable, a test, a line in relay.toml. They import relay.mail, relay.policy, relay.errors and relay.metrics, nothing else of Relay;
what they need from outside comes in `services`.
"""
