"""The API's client for Python: what the user's commands are made of, and what programs may use.

`Connection` carries requests to one server; a module per noun (`pods`, `accounts`, `offers`) puts methods on top that
take and return the shapes of `wire`. What goes wrong is raised as the errors of `kit.errors`, as the server has them.
"""
