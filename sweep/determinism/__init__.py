"""Seeds, switches, digests, and the environment on which the bits of a run depend."""
