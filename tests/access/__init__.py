"""Who may do what: every RPC by every kind of caller, against a table that is checked in."""
