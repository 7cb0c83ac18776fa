"""The local runtime: pods as sandboxed processes on this machine."""
