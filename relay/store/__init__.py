"""The store: the only room that knows SQL.

Read `engine` first (what a write promises), then `writes` (how a batch of them runs), `sqlite` or `postgres` (what a commit is), `schema` (the tables). A noun
is one file of plain functions of a Connection: `messages`, `queue`, `attempts`, `events`, `reports`, `bodies` for what every message passes through, and
`projects`, `keys`, `domains`, `suppressions`, ... beside them. `bulk` is how many rows go in at once. `retention`, `backup`, `epoch`, `lock`, `space` and
`migrations` keep the house; `faults` is where tests kill it.
"""
