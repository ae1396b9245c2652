"""The C library's rand(), so that a run of the original data layer can be replayed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

RAND_MAX = 2147483647
_MASK = 0xFFFFFFFF


def glibc_rand(seed: int) -> Iterator[int]:
    """The endless sequence of glibc's ``rand()`` after ``srand(seed)``.

    A process that never seeds has seed 1.

    glibc's default generator is additive feedback, r[i] = r[i-3] + r[i-31] modulo 2^32, of which the lowest
    bit is dropped. Its first 31 words come from the multiplicative generator 16807 modulo 2^31 - 1, the next
    three repeat the first three, and outputs begin with r[344].

    Args:
        seed: 0 to 2^32 - 1; 0 acts as 1.
    """
    if not 0 <= seed < 1 << 32:
        raise ValueError(f"seed: expected 0 to 2^32 - 1, got {seed}")
    word = (seed or 1) - (1 << 32 if seed >= 1 << 31 else 0)  # C reads it as a signed number
    ring = [word & _MASK]
    for _ in range(30):
        word = _park_miller(word)
        ring.append(word)
    for i in count(34):
        ring[i % 31] = (ring[i % 31] + ring[(i - 3) % 31]) & _MASK
        if i >= 344:
            yield ring[i % 31] >> 1


def _park_miller(word: int) -> int:
    """16807 * word modulo 2^31 - 1 for a signed 32-bit word, with C's division toward zero."""
    sign = -1 if word < 0 else 1
    high, low = divmod(abs(word), 127773)
    result = sign * (16807 * low - 2836 * high)
    return result + RAND_MAX if result < 0 else result
