"""Every bound of channelpay, each with its reason. Spec: the tables of chapters 4 to 8.

Names end in their unit. A bound that travels or that both sides must agree on is part of the
protocol; the others are this implementation's own.
"""

from __future__ import annotations

from typing import Final

# --- Numbers (spec M-1) --------------------------------------------------------------------
MAX_UNITS: Final = 2**63 - 1
"""Largest amount, counter or sum: what a SQLite or PostgreSQL integer holds."""

MAX_ASSET_SCALE: Final = 18
"""Decimal places of an asset; 10^18 units still leave nine whole ones below MAX_UNITS."""

MAX_ASSET_CODE: Final = 12
"""Characters of an asset's code: long enough for any ticker, short enough for a table."""

# --- Frames (spec T-3) ---------------------------------------------------------------------
FRAME_HEADER_BYTES: Final = 5
"""Four of length, one of type."""

MAX_FRAME_BEFORE_AUTH: Final = 4 * 1024
"""A stranger may make us hold this much."""

MAX_FRAME: Final = 128 * 1024
"""One full batch (98,304 bytes of records and 16 KiB of memos) with room to spare."""

MAX_CONTROL_FRAME: Final = 1024 * 1024
"""The local socket serves its owner: larger answers, fewer round trips."""

MAX_CALLS: Final = 256
"""Calls of one client of the local socket under way at once: each is a task of the daemon (spec N-11)."""

MAX_ARRAY_ITEMS: Final = 4096
"""Items of any array that travels (spec W-4). A decoder makes room for as many items as an array's header
claims, once for each level of nesting, before it sees the first of them."""

# --- Batches (spec S-20) --------------------------------------------------------------------
RECORD_BYTES: Final = 24
"""An amount of 8 and a payment id of 16."""

MAX_BATCH: Final = 4096
"""Payments in one link: with 24 bytes each, the largest that fits a frame well."""

MAX_MEMO_BYTES: Final = 256
"""A line of text or a hash with a name: what is longer belongs beside the payment, not in it."""

MAX_MEMOS_BYTES: Final = 16 * 1024
"""Of one batch: they share its frame with 96 KiB of records."""

# --- Handshake and connections (spec, section 4.9) -----------------------------------------
HANDSHAKE_TIMEOUT_S: Final = 10.0
"""From accept to AUTH, one deadline for all of it: a slow stranger costs ten seconds."""

ADDRESS_HANDSHAKES_PER_S: Final = 10
ADDRESS_HANDSHAKE_BURST: Final = 50
"""Handshakes that one address may begin: those of fifty peers behind one router at once, which is a tenth of a second
of a core (1 to 2 ms each), then ten a second."""

HANDSHAKES_PER_S: Final = 100
HANDSHAKE_BURST: Final = 256
"""Handshakes that all addresses together may begin: a fifth of a core at most, the rest stays with those who pay. Ten
thousand peers that come back after a restart are in within three minutes, in a third of the shortest window that a
node accepts by default (spec T-29)."""

HANDSHAKE_RESERVE: Final = 0.25
"""Part of the common burst that is kept for addresses of peers with a channel and for those that have rested:
strangers that flood cannot keep them out."""

HANDSHAKE_REST_S: Final = 2.0
"""An address that has begun no handshake for so long has rested. A flood that is to use up the reserve too needs
more than 200 addresses: HANDSHAKES_PER_S times this."""

MAX_ADMISSION_ADDRESSES: Final = 16_384
"""Addresses whose rate is remembered, 4 MiB of them; the longest silent is forgotten first and is then a new one, whom
the common rate bounds."""

MAX_PENDING_HANDSHAKES: Final = 512
MAX_PENDING_PER_ADDRESS: Final = 16
"""Strangers at one time, in all and from one address: 512 half-done handshakes are about 50 MiB."""

HANDSHAKE_GRACE_S: Final = 2.0
"""A stranger has this long for itself; after it, and when all places are taken, it makes room for the next one. An
honest handshake is five round trips: more than enough to the other side of the world. 512 places turn over every
two seconds faster than HANDSHAKES_PER_S fills them, so silent strangers never keep the others out."""

MAX_CONNECTIONS: Final = 16_384
"""Authenticated ones: ten thousand peers, and room; at 50 KiB each 800 MiB."""

MAX_GUESTS: Final = 1024
MAX_GUESTS_PER_ADDRESS: Final = 256
"""Authenticated connections of peers that have no channel here, in all and from one address: a key costs a stranger
nothing, a connection costs us 50 KiB and a descriptor."""

DESCRIPTOR_RESERVE: Final = 128
"""File descriptors that connections leave to stores, logs, and the owner's own socket."""

LOG_LINES_PER_S: Final = 1
LOG_BURST: Final = 20
"""Lines about strangers: enough to see what happens, too few to fill a disk (20 MB a day)."""

PING_INTERVAL_S: Final = 15.0
"""Half of PING_TIMEOUT_S: whoever is silent is asked before it is dropped. Routers forget idle connections later."""

PING_TIMEOUT_S: Final = 30.0
"""A silent peer is dropped after this; below any sensible dispute window."""

MAX_OUTGOING_BYTES: Final = 16 * 1024 * 1024
"""Bytes that wait for a peer that does not read, before its connection is dropped. DEFAULT_MAX_UNACKED payments
in batches of one, all sent again after a reconnection, are 10 MiB."""

MAX_GUEST_OUTGOING_BYTES: Final = 256 * 1024
"""The same for a peer without a channel, to which there is nothing to say but PONGs: MAX_GUESTS of them are 256 MiB."""

LINGER_TIMEOUT_S: Final = 1.0
"""How long a closing connection may take to deliver what is queued and the ERROR."""

RECONNECT_MIN_S: Final = 0.2
RECONNECT_MAX_S: Final = 60.0
RECONNECT_RESET_S: Final = 30.0
"""Back-off of a lost peer: doubles from the first to the second, reset once connected this long."""

MAX_VERSIONS: Final = 8
MAX_FEATURES: Final = 32
MAX_LEDGERS: Final = 8
MAX_AGENT_BYTES: Final = 64
"""What HELLO holds: all of it together is a quarter of MAX_FRAME_BEFORE_AUTH, and more than anybody has had to say."""

MAX_TEXT_BYTES: Final = 256
"""What an ERROR or an EVENT says to people: two lines on a terminal."""

# --- Channels (spec C-29) ------------------------------------------------------------------
MIN_WINDOW_S: Final = 10
"""A dispute window must let a restarted node answer; ten seconds serves tests and demos on one machine."""

DEFAULT_WINDOW_S: Final = 86_400
MAX_WINDOW_S: Final = 30 * 86_400
"""136 years would be a prison; a month is as long as anyone has asked for."""

DEFAULT_MAX_UNACKED: Final = 65_536
"""Payments in flight: sixteen full batches keep a link busy while the payee commits."""

MAX_MAX_UNACKED: Final = 1_048_576
"""24 MiB of records that a payer must keep for a resend."""

MAX_QUEUED_PAYMENTS: Final = 65_536
"""Payments that wait for a flush on one channel before `pay` itself waits."""

MAX_QUEUED_ITEMS: Final = 1024
"""Pieces of the queue above which `pay` waits too: payments that came together are one piece of up to a batch, those
that came alone are one each, of 450 bytes. The last call that is let in may add a frame's 4,096 of them: 2.3 MiB."""

MAX_UNACKED_BATCHES: Final = 2048
"""PAYs that wait for an ACK, however much the peer would take: a small one costs its payer 700 bytes, so a payee that
stands still costs 1.4 MiB at most, and half a second's work of one core is always under way."""

FLUSH_BATCHES: Final = 128
"""PAYs of one channel in one step: a signature costs 30 us, so other channels and the network wait 10 ms at most."""

RECEIPT_DELAY_S: Final = 0.1
"""How long the peer's signature for payments of ours may wait for a commit to ride with (spec N-8)."""

DUPLICATE_WINDOW_BATCHES: Final = 64
"""Newest batches of the peer whose exact bytes can still be recognised when resent."""

REMEMBERED_IDS: Final = 65_536
"""Payment ids of one direction kept in memory; older ones are looked up in the store."""

MAX_SEARCHED_BATCHES: Final = 256
"""Batches on disk that a peer may make a payee look through for the ids of one batch: some 50 ms at most."""

PAYMENT_ID_HORIZON_S: Final = 86_400
"""An id whose time stamp is older is refused as expired: the store need not look further back."""

PAYMENT_ID_FUTURE_S: Final = 3_600
"""An id stamped further ahead than this comes from a broken clock."""

FINAL_EXPIRY_S: Final = 3_600
"""FINAL and WITHDRAW agreements live at most this long (spec X-6)."""

ANSWER_TIMEOUT_S: Final = 30.0
"""Every wait on a peer's answer: ACCEPT, ACK, SHUTDOWN, FINAL, WITHDRAW-OK."""

CLOSE_TIMEOUT_S: Final = 120.0
"""A cooperative close that is not through by then becomes a unilateral one: the peer is gone (spec X-12)."""

FINAL_SUBMIT_DELAY_S: Final = 5.0
"""Party 1 leaves the submission of FINAL to party 0 this long: one transaction instead of two."""

SUBMIT_RETRY_S: Final = 2.0
"""A submission that the ledger refused is tried again after this, as long as the channel still wants it."""

CLAIM_WAIT_S: Final = 600.0
"""Party 1 of a one-way channel waits this long after a start for REESTABLISH (spec X-11)."""

MAX_HELD_BACK: Final = 70_000
"""Messages of one channel that wait for a reading of the ledger: an honest peer's whole window at max_batch 1."""

MAX_RECORDS_BATCHES: Final = 4096
"""Batches in one RECORDS message: `max_batch = 1` makes batches of 24 bytes."""

MAX_CHANNELS_PER_PEER: Final = 16
"""Default of the policy: a stranger that opens channels makes us store them for ever."""

# --- Ledger (spec L-2) ---------------------------------------------------------------------
MAX_BLOB_BYTES: Final = 16 * 1024
"""A request: the largest, two states with their signatures, has less than a kilobyte."""

MAX_BODY_BYTES: Final = 96 * 1024
"""An answer: 128 channels or 256 lines of a journal, and below MAX_FRAME."""
MAX_REQUEST_LIFE_S: Final = 3_600
"""How far ahead valid_until may lie: outcomes are stored until then."""

RESPOND_STATES: Final = 2
"""States in one close or respond: the newest held and the ledger-only one (spec X-4)."""

RESTART_GRACE_S: Final = 600
"""After an outage every open dispute has at least min(window, this) left."""

OUTAGE_S: Final = 3
"""A ledger's clock that leaps by more than this was away: three times its tick, a third of the least window."""

LEDGER_TICK_S: Final = 1.0
"""How often an idle ledger stores its clock and settles what is due."""

LEDGER_REQUEST_TIMEOUT_S: Final = 20.0
"""A ledger under load answers in seconds; after this the connection is no good, and what was asked is asked anew."""

MAX_PAGE: Final = 256
"""Rows in one answer to a listing."""

MAX_REQUESTS_IN_FLIGHT: Final = 1024
"""Requests of one connection that the ledger has read and not answered."""

# --- Recovery (spec N-26) -------------------------------------------------------------------
RECOVERY_KEY_GAP: Final = 2048
"""Channel keys in a row that are looked at after the last one known: openings that came to nothing used them up. Twice
the channels that a node has by default; less than a second of work, once."""

RECOVERY_STEP_KEYS: Final = 16
"""Channel keys that are derived in one step: one or two milliseconds, in which no payment moves."""

MAX_EARLY_REESTABLISH: Final = 1024
"""States that peers showed, before the ledger was read, of channels that are not known: 1 KiB each."""

# --- At rest (spec N-24) --------------------------------------------------------------------
SEED_KDF_MEMORY_KIB: Final = 64 * 1024
SEED_KDF_PASSES: Final = 3
SEED_KDF_LANES: Final = 4
"""Argon2id for a seed file's passphrase: the second recommended option of RFC 9106, section 4. A guess costs 64 MiB
and a quarter of a second of two cores; the first option asks for 2 GiB, which small machines do not have."""

MAX_SEED_KDF_MEMORY_KIB: Final = 4 * 1024 * 1024
MAX_SEED_KDF_PASSES: Final = 64
MAX_SEED_KDF_LANES: Final = 64
"""What a seed file may ask for: 4 GiB, and minutes. Beyond it the file is damaged or meant to do harm."""

MAX_SEED_FILE_BYTES: Final = 4096
"""24 words have at most 215 bytes, an encrypted seed about 400."""

MAX_PASSPHRASE_BYTES: Final = 1024
"""Longer than anybody types; a file that is no passphrase is noticed."""

# --- Pruning (spec N-32) --------------------------------------------------------------------
MIN_KEEP_S: Final = PAYMENT_ID_HORIZON_S + PAYMENT_ID_FUTURE_S
"""Payment ids are remembered with the records that carry them: an id may be used until the horizon has passed since
its time stamp, which may lie ahead."""

DEFAULT_KEEP_S: Final = MAX_WINDOW_S
"""As long as the longest dispute window: a peer that was away for longer and then RECALLs has lost its channels."""

MAX_KEEP_S: Final = 100 * 365 * 86_400
"""A century: for ever."""

PRUNE_MARK_S: Final = 3_600
"""How exactly the age of records is known: they are kept up to an hour longer than asked for."""

PRUNE_LOOK_S: Final = 60.0
"""How often a node looks whether more has become old."""

PRUNE_STEP_BATCHES: Final = 256
PRUNE_STEP_BYTES: Final = 1024 * 1024
"""Records that one step of pruning takes away: 2 to 4 ms, in which no payment moves."""

CHECK_STEP_ROWS: Final = 8
"""Rows of its own store that a node looks at in one step: less than a millisecond, in which no payment moves."""

CHECK_SHARE: Final = 20
"""A node looks through its store for one part in so many of its time: payments are not slower for it."""

CHECK_EVERY_S: Final = 86_400.0
"""How long a node rests after it has looked through its store: daemons run for months, and disks age meanwhile."""
