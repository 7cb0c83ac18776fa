"""What pods use: rates, the packed series of the last hours, and their rows."""
