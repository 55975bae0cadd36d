"""Verify: what is called bit-exact was trained again and compared, digest by digest, in another process."""
