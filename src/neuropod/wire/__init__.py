"""The published JSON shapes, one module per noun. Used by api, which fills them, and client, which reads them.

Requests refuse unknown fields; answers ignore them when they are read, so that an older client understands a newer
server. A shape says types and, for generated clients, limits; the rules themselves are held by the use-cases, which
name all wrong fields of a request at once.
"""
