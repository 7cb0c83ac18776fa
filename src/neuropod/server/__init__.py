"""The composition root: everything is built here once, in order, and passed down. Called by operate and by tests.

`installation` opens the data directory, key, database and runtimes and builds the use-cases; `serving` adds loops and
listeners and runs until it is told to end; `gateway` is the gateway as a process of its own; `listening` has what both
need of sockets and signals.
"""
