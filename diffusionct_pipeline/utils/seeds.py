"""Derive seeds for several purposes from one."""

import hashlib

MAX_SEED = 2**63 - 1


def derive_seed(seed: int, purpose: str) -> int:
    """Return a seed of 0 to `MAX_SEED` for a purpose, the same in every process; those of two purposes are independent."""
    return int.from_bytes(hashlib.sha256(f"{seed} {purpose}".encode()).digest()[:8], "big") >> 1
