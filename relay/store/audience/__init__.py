"""The audience in the store: whom a project writes to, how they are grouped, and what they agreed to.

`schema` has the tables; a noun is one file: `contacts`, `properties` (their types), `history` (what they agreed to, and when), `audiences`, `topics`,
`segments`. `rules` is what a segment asks as a tree, `operators` turns such a tree into SQL for both databases. What an act means lives above, in
relay.consent and relay.audience.
"""
