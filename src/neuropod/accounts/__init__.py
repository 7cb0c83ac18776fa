"""Users, sessions, API keys, and who may do what. Used by api, gateway (by its gate) and operate."""
