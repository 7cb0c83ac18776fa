"""The API's client for Python: what the user's commands are made of, and what programs may use."""
