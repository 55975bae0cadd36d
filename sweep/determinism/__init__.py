"""Seeds, switches, digests, and the environment that the bits of a run belong to."""
