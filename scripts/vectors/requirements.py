"""Which requirements the cases of each kind show; a case may name more of its own."""

from __future__ import annotations

KINDS: dict[str, tuple[str, ...]] = {
    "keyring": ("S-5", "S-6"),
    "seed words": ("S-5",),
    "public key": ("S-3",),
    "sign": ("S-1", "S-2"),
    "verify": ("S-2", "S-3"),
    "id": ("S-7",),
    "id text": ("S-3", "S-7"),
    "address": ("S-25",),
    "asset id": ("S-1", "S-8"),
    "channel id": ("S-9",),
    "half": ("M-1", "S-10"),
    "state": ("S-11",),
    "final": ("S-12",),
    "withdraw": ("S-13",),
    "accepted": ("S-14",),
    "genesis": ("S-15",),
    "link": ("S-16",),
    "auth": ("S-17",),
    "request": ("S-18",),
    "response": ("S-19",),
    "signature": ("S-2", "S-23", "S-24"),
    "records": ("M-1", "M-2", "M-6", "S-20", "S-22"),
    "memos": ("S-21",),
    "parse": ("M-4",),
    "print": ("M-5",),
    "code": ("M-3",),
    "encode": ("W-2",),
    "decode": ("W-2", "W-3", "W-4"),
    "message": ("M-8", "T-2", "W-1"),
    "frame": ("T-2", "T-3", "W-1", "W-5", "W-6", "W-8", "W-9"),
    "transcript": ("S-17", "T-9", "T-15", "T-16"),
    "hello": ("T-3", "T-11", "T-12", "T-13", "T-14", "T-15", "T-22", "E-8"),
    "auth frame": ("T-15", "T-16", "T-17", "T-18", "T-22", "E-8"),
    "request blob": ("L-3",),
    "request frame": ("L-3", "L-5"),
    "answer": ("L-4",),
    "view": ("L-14",),
    "ledger operation": ("L-1", "L-10", "L-11", "L-12"),
    "join": ("L-38", "L-39"),
    "payout": ("L-40",),
    "claim": ("L-33", "L-40"),
    "extended deadline": ("L-16",),
    "example": ("S-9", "S-11", "S-15", "S-16", "W-1"),
}  # fmt: skip


def of_case(kind: str, also: tuple[str, ...]) -> list[str]:
    """All requirements of a case in the order of their chapters' letters and numbers."""
    return sorted({*KINDS[kind], *also}, key=lambda name: (name[0], int(name[2:])))
