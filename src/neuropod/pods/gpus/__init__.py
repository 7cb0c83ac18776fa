"""Which pods hold GPUs, which wait for them, and what becomes of GPUs that are held."""
