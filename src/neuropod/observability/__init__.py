"""What the server tells operators: logs, metrics, and the health of its parts. Used by every ring above."""
