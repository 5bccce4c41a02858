"""SipHash-2-4 with 128 bits: keyed digests, in plain Python.

Source: https://www.aumasson.jp/siphash/siphash.pdf
"""

from __future__ import annotations

_ALL = (1 << 64) - 1
_MAGIC = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)

#: Bytes of a seed, and of a digest.
SEED_LENGTH = 16


def siphash(seed: bytes, tag: int, data: bytes) -> bytes:
    """The digest of some data; data of another kind has another ``tag``, which changes the key."""
    first = int.from_bytes(seed[:8], "little") ^ tag
    second = int.from_bytes(seed[8:], "little")
    a, b, c, d = (word ^ magic for word, magic in zip((first, second) * 2, _MAGIC, strict=True))
    state = a, b ^ 0xEE, c, d
    whole = len(data) // 8 * 8
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, whole, 8)]
    words.append(int.from_bytes(data[whole:], "little") | (len(data) & 0xFF) << 56)
    for word in words:
        a, b, c, d = _mixed((*state[:3], state[3] ^ word), 2)
        state = a ^ word, b, c, d
    digest = b""
    for place, change in ((2, 0xEE), (1, 0xDD)):
        changed = list(state)
        changed[place] ^= change
        a, b, c, d = state = _mixed((changed[0], changed[1], changed[2], changed[3]), 4)
        digest += (a ^ b ^ c ^ d).to_bytes(8, "little")
    return digest


def _mixed(state: tuple[int, int, int, int], rounds: int) -> tuple[int, int, int, int]:
    a, b, c, d = state
    for _ in range(rounds):
        a, c = (a + b) & _ALL, (c + d) & _ALL
        b, d = _rotated(b, 13) ^ a, _rotated(d, 16) ^ c
        a, c = (_rotated(a, 32) + d) & _ALL, (c + b) & _ALL
        d, b = _rotated(d, 21) ^ a, _rotated(b, 17) ^ c
        c = _rotated(c, 32)
    return a, b, c, d


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & _ALL
