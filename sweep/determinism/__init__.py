"""Where randomness comes from, how kernels are chosen, and what the bits that come of it belong to."""
