"""The one front door: the HTTP API, the small pages of the console's host, health and metrics, the machine's socket.

`app.build_api` makes the ASGI app for all hosts that are not pods; server serves it beside the gateway. Routes turn
the wire's shapes into use-cases and back and decide nothing; `deps` alone opens database sessions.
"""
