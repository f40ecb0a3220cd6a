"""Which requirements the cases of each kind show; a case may name more of its own."""

from __future__ import annotations

import re

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
    "half": ("S-10",),
    "state": ("S-11",),
    "final": ("S-12",),
    "withdraw": ("S-13",),
    "accepted": ("S-14",),
    "genesis": ("S-15",),
    "link": ("S-16",),
    "auth": ("S-17",),
    "request": ("S-18",),
    "response": ("S-19",),
    "signature": ("S-2",),
    "records": ("S-20",),
    "payment id": ("S-22",),
    "memos": ("S-21",),
    "parse": ("M-4",),
    "print": ("M-5",),
    "code": ("M-3",),
    "encode": ("W-2",),
    "decode": ("W-2", "W-3", "W-4"),
    "message": ("T-2", "W-1"),
    "frame": ("T-2", "W-1"),
    "transcript": ("S-17", "T-15", "T-16"),
    "hello": ("T-12", "T-13", "T-14"),
    "auth frame": ("T-16",),
    "request blob": ("L-3",),
    "request frame": ("L-3", "L-5"),
    "answer": ("L-4",),
    "view": ("L-4",),
    "ledger operation": ("L-1", "L-12"),
    "join": ("L-38", "L-39"),
    "payout": ("L-40",),
    "claim": ("L-33", "L-40"),
    "extended deadline": ("L-16",),
    "balance": ("C-8",),
    "example": ("S-9", "S-11", "S-15", "S-16", "W-1"),
}  # fmt: skip


NAMES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("frame", r"length|without its end|three bytes|no bytes", ("T-3",)),
    ("frame", r"unknown type|a field (less|more)|fields?( too many)?$", ("W-5",)),
    ("frame", r": |a token that|, ", ("W-6",)),
    ("frame", r"type of the local socket", ("W-8",)),
    ("frame", r"shortest form|a byte after|levels deep", ("W-3",)),
    ("frame", r"4,097 batches", ("W-4",)),
    ("message", r"RECORDS|PastRecords, the largest|Pay, the largest", ("T-3",)),
    ("half|records", r"2\^63-1|u64|largest", ("M-1",)),
    ("records", r"total above", ("M-2",)),
    ("records", r"zero", ("M-6",)),
    ("hello|auth frame", r"4,097", ("T-3",)),
    ("hello|auth frame", r"in its place|unknown type", ("T-15", "T-22")),
    ("hello", r"falling|twice|rising", ("T-11",)),
    ("hello", r" and an? (even|wrong)|and no common", ("E-8",)),
    ("auth frame", r"reflection|own id", ("T-17",)),
    ("auth frame", r"expected", ("T-18",)),
    ("signature", r"hash of its bytes", ("S-23",)),
    ("request frame", r"unknown operation", ("L-10",)),
    ("ledger operation", r" and |, when settled|too late", ("L-10",)),
)
"""Cases of a kind (a pattern) whose name matches: what they show beside the rest of their kind."""


def of_case(kind: str, name: str, also: tuple[str, ...]) -> list[str]:
    """All requirements of a case in the order of their chapters' letters and numbers."""
    found = {*KINDS[kind], *also}
    for kinds, pattern, numbers in NAMES:
        if re.fullmatch(kinds, kind) and re.search(pattern, name):
            found.update(numbers)
    return sorted(found, key=lambda number: (number[0], int(number[2:])))
