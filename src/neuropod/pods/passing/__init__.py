"""Pods whose view moves without an event: in a queue, or being prepared. Read by the event stream."""
