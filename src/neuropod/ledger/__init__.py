"""The append-only record of money. Its account row is what admission locks."""
