"""Proofs that a run is bit-exact: it is trained again in other processes and compared digest by digest."""
