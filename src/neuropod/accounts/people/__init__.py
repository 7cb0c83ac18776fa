"""Users as administrators see them, and the sessions that they hold."""
