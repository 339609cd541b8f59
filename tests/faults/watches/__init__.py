"""Proof that watches keep their promises while servers are killed and connections are cut.

`recording` holds what watchers saw, `promises` checks it against what really happened, `watchers` are the clients that record,
`load` makes the events, `chaos` breaks things, `torture` runs all of it, `report` prints what came out.
"""
