"""Bytes, as people read them."""

from __future__ import annotations


def size(n_bytes: int) -> str:
    """Write a number of bytes in MiB or GiB."""
    return f"{n_bytes / 2**30:,.0f} GiB" if n_bytes >= 10 * 2**30 else f"{n_bytes / 2**20:,.0f} MiB"
