"""The fake runtime: the contract in memory, with scripts and faults, for tests and for trying Neuropod at scale."""
