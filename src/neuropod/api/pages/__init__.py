"""The small server-rendered pages of the console's host: sign-in, one's pods, confirming a program, passing the gate.

They work without scripts but for the one-time link (its token is in the fragment, which only a script can read), hold
no inline script or style, escape all text, and cannot be framed. The console proper comes later and uses the same API.
"""
