"""The place of the `kubernetes` runtime (DESIGN §4); the contract it will implement is `runtimes.contract`."""
