"""Templates that people write: a pod's fields kept under a name."""
