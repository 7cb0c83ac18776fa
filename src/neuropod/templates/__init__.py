"""Templates: named starting points for pods."""
