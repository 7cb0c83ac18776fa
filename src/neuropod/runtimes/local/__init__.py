"""The `local` runtime: pods as sandboxed processes on this machine (DESIGN §4).

The server's half is `runtime.LocalRuntime`; everything that must outlive the server is done by one small `shim` process
per pod. Nothing is imported here, because the shim imports this package too and must stay light.

    runtime ─ writes the plan, starts ─► shim ─ environments, disks, network, cgroups ─► sandbox ─► launcher ─► pod
       ▲                                  │
       └────── state file, log files ◄────┘   and a control socket: nudges, connected sockets, stop, kill
"""
