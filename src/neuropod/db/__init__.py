"""The database: engine and sessions, the record base, and what every noun shares (leases, events, audit, idempotency).

Nouns keep their own records and all their SQL (`store.py`). Only `api.deps`, `reconcile`, `server` and `operate` open a
writing session; use-cases get one and never commit.
"""
