"""What runs workloads. `contract` is the seam; `registry` is the only module that names a concrete runtime."""
