"""The configuration of a node and of a ledger: frozen values, each with its rule and its meaning. Spec N-4.

One dataclass is one table of the TOML file, one field one key; `load` walks them, so a key is
declared here and nowhere else.
"""
# ruff: noqa: RUF009  the functions called in defaults make dataclasses.field objects

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields
from decimal import Decimal
from typing import Any, Final, Literal

from channelpay.home.rules import (
    AmountBounds,
    HostPort,
    Rule,
    amounts,
    asset_codes,
    choice,
    integer,
    maybe_ledger,
    maybe_place,
    places,
    yes_no,
)
from channelpay.keys import Address
from channelpay.limits import (
    ADDRESS_HANDSHAKE_BURST,
    ADDRESS_HANDSHAKES_PER_S,
    DEFAULT_KEEP_S,
    DEFAULT_MAX_UNACKED,
    DEFAULT_WINDOW_S,
    HANDSHAKE_BURST,
    HANDSHAKES_PER_S,
    MAX_BATCH,
    MAX_CHANNELS_PER_PEER,
    MAX_GUESTS_PER_ADDRESS,
    MAX_KEEP_S,
    MAX_MAX_UNACKED,
    MAX_PENDING_HANDSHAKES,
    MAX_PENDING_PER_ADDRESS,
    MAX_UNITS,
    MAX_WINDOW_S,
    MIN_KEEP_S,
    MIN_WINDOW_S,
)

NODE_PORT: Final = 7668
LEDGER_PORT: Final = 7669
_ANY_HOST: Final = frozenset({"0.0.0.0", "::"})
_MOST_CHANNELS: Final = 1_000_000
_MOST_HANDSHAKES: Final = 1_000_000
_DAY_S: Final = 86_400


def _setting(default: Any, rule: Rule, meaning: str) -> Any:
    return field(default=default, metadata={"rule": rule, "meaning": meaning})


def _section(kind: type[Any]) -> Any:
    return field(default_factory=kind)


def rule_of(key: Field[Any]) -> Rule:
    """How the values of a configuration field are checked."""
    rule: Rule = key.metadata["rule"]
    return rule


def meaning_of(key: Field[Any]) -> str:
    """What a configuration field does, in one line."""
    meaning: str = key.metadata["meaning"]
    return meaning


@dataclass(frozen=True, slots=True)
class Listening:
    """[node]: where this node is found."""

    listen: tuple[HostPort, ...] = _setting(
        (HostPort("127.0.0.1", NODE_PORT),), places(), "where this node listens for peers; port 0: any free port"
    )
    advertise: HostPort | None = _setting(
        None, maybe_place(), "the place that others are told to connect to; empty: the first of listen"
    )


@dataclass(frozen=True, slots=True)
class LedgerLink:
    """[ledger] of a node: the one ledger that it trusts, pinned by its id."""

    address: Address | None = _setting(None, maybe_ledger(), "the ledger that this node settles on")


@dataclass(frozen=True, slots=True)
class Policy:
    """[policy]: which channels offered by others this node accepts (spec N-6)."""

    auto_accept: bool = _setting(False, yes_no(), "whether channels that others offer are accepted at all")
    assets: tuple[str, ...] = _setting((), asset_codes(), "assets that are accepted; empty: all of the ledger")
    min_deposit: AmountBounds = _setting(AmountBounds(), amounts(), "least deposit of the other party, asset by asset")
    max_deposit: AmountBounds = _setting(AmountBounds(), amounts(), "most deposit of the other party, asset by asset")
    min_window_s: int = _setting(
        600, integer(MIN_WINDOW_S, MAX_WINDOW_S), "shortest dispute window: this node must be back within it"
    )
    max_window_s: int = _setting(
        7 * _DAY_S, integer(MIN_WINDOW_S, MAX_WINDOW_S), "longest dispute window: how long money may be locked"
    )
    max_channels_per_peer: int = _setting(
        MAX_CHANNELS_PER_PEER, integer(0, _MOST_CHANNELS), "channels not yet settled with one peer"
    )
    max_channels: int = _setting(1024, integer(0, _MOST_CHANNELS), "channels not yet settled with all peers together")


@dataclass(frozen=True, slots=True)
class Limits:
    """[limits]: what this node announces about the payments that it receives."""

    max_unacked: int = _setting(
        DEFAULT_MAX_UNACKED, integer(1, MAX_MAX_UNACKED), "payments that a payer may have in flight"
    )
    max_unacked_value: AmountBounds = _setting(
        AmountBounds(), amounts(), "value that a payer may have in flight, asset by asset; none: no bound"
    )
    min_payment: AmountBounds = _setting(
        AmountBounds(), amounts(), "least payment, asset by asset; none: the asset's smallest unit"
    )


@dataclass(frozen=True, slots=True)
class Opening:
    """[channel]: terms of the channels that this node opens, unless the command says otherwise."""

    window_s: int = _setting(DEFAULT_WINDOW_S, integer(MIN_WINDOW_S, MAX_WINDOW_S), "dispute window")
    max_batch: int = _setting(MAX_BATCH, integer(1, MAX_BATCH), "payments under one signature")


@dataclass(frozen=True, slots=True)
class Admission:
    """[admission]: how many connections a daemon lets in, against floods (spec T-28 to T-30)."""

    address_per_s: int = _setting(
        ADDRESS_HANDSHAKES_PER_S, integer(1, _MOST_HANDSHAKES), "handshakes a second of one address"
    )
    address_burst: int = _setting(
        ADDRESS_HANDSHAKE_BURST, integer(1, _MOST_HANDSHAKES), "handshakes of one address that may come at once"
    )
    per_s: int = _setting(HANDSHAKES_PER_S, integer(1, _MOST_HANDSHAKES), "handshakes a second of all together")
    burst: int = _setting(
        HANDSHAKE_BURST, integer(1, _MOST_HANDSHAKES), "handshakes of all together that may come at once"
    )
    address_pending: int = _setting(
        MAX_PENDING_PER_ADDRESS, integer(1, _MOST_HANDSHAKES), "handshakes of one address under way at one time"
    )
    pending: int = _setting(
        MAX_PENDING_HANDSHAKES, integer(1, _MOST_HANDSHAKES), "handshakes of all together under way at one time"
    )
    address_guests: int = _setting(
        MAX_GUESTS_PER_ADDRESS,
        integer(1, _MOST_HANDSHAKES),
        "connections of one address by keys without a channel here",
    )


@dataclass(frozen=True, slots=True)
class Records:
    """[records]: how long payments are remembered one by one (spec N-32)."""

    keep_s: int = _setting(
        DEFAULT_KEEP_S,
        integer(MIN_KEEP_S, MAX_KEEP_S),
        "how long the records of payments are kept: for receipts, for `payments`, for a peer that lost its own",
    )


@dataclass(frozen=True, slots=True)
class Log:
    """[log]: one record per event, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = _setting(
        "info", choice("debug", "info", "warning", "error"), "the least that is written"
    )
    format: Literal["auto", "text", "json"] = _setting(
        "auto", choice("auto", "text", "json"), "auto: text on a terminal, else one JSON object per line"
    )


def _definite(place: HostPort) -> HostPort | None:
    """`place` unless it stands for any port or any address of the machine."""
    return None if place.port == 0 or place.host in _ANY_HOST else place


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Everything that a node's daemon is told."""

    node: Listening = _section(Listening)
    ledger: LedgerLink = _section(LedgerLink)
    policy: Policy = _section(Policy)
    limits: Limits = _section(Limits)
    channel: Opening = _section(Opening)
    admission: Admission = _section(Admission)
    records: Records = _section(Records)
    log: Log = _section(Log)

    @property
    def reachable_at(self) -> HostPort | None:
        """Where others are told to connect to; None if only the running daemon can know."""
        return self.node.advertise or _definite(self.node.listen[0])

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """(key, what is wrong) for values that are sound alone but not together."""
        policy = self.policy
        if policy.min_window_s > policy.max_window_s:
            yield "policy.min_window_s", f"{policy.min_window_s} is above max_window_s = {policy.max_window_s}"
        for code, least in policy.min_deposit.entries:
            most = policy.max_deposit.number(code)
            if most is not None and Decimal(least) > Decimal(most):
                yield "policy.min_deposit", f"{least} {code} is above max_deposit = {most} {code}"


@dataclass(frozen=True, slots=True)
class Settlement:
    """[ledger] of a ledger: where it listens and which channels it opens."""

    listen: tuple[HostPort, ...] = _setting(
        (HostPort("127.0.0.1", LEDGER_PORT),), places(), "where the ledger listens; port 0: any free port"
    )
    min_window_s: int = _setting(MIN_WINDOW_S, integer(MIN_WINDOW_S, MAX_WINDOW_S), "shortest dispute window")
    max_window_s: int = _setting(MAX_WINDOW_S, integer(MIN_WINDOW_S, MAX_WINDOW_S), "longest dispute window")
    min_deposit: int = _setting(1, integer(1, MAX_UNITS), "least first deposit of a channel, in units of its asset")


@dataclass(frozen=True, slots=True)
class LedgerConfig:
    """Everything that a ledger's daemon is told."""

    ledger: Settlement = _section(Settlement)
    admission: Admission = _section(Admission)
    log: Log = _section(Log)

    @property
    def reachable_at(self) -> HostPort | None:
        """Where clients on this machine connect to; None if only the running daemon can know."""
        return _definite(self.ledger.listen[0])

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """(key, what is wrong) for values that are sound alone but not together."""
        ledger = self.ledger
        if ledger.min_window_s > ledger.max_window_s:
            yield "ledger.min_window_s", f"{ledger.min_window_s} is above max_window_s = {ledger.max_window_s}"


Config = NodeConfig | LedgerConfig
KINDS: Final[dict[str, type[NodeConfig] | type[LedgerConfig]]] = {"node": NodeConfig, "ledger": LedgerConfig}
"""The value of the key `kind`, and what a file of this kind holds."""


def section_types(kind: type[NodeConfig] | type[LedgerConfig]) -> dict[str, type[Any]]:
    """The dataclass of every table, in the order of the file."""
    return {section.name: section.default_factory for section in fields(kind)}  # type: ignore[misc]


def keys_of(kind: type[NodeConfig] | type[LedgerConfig]) -> Iterator[tuple[str, Field[Any]]]:
    """(key, field) of every setting, such as `policy.max_channels`, in the order of the file."""
    for section, table in section_types(kind).items():
        for key in fields(table):
            yield f"{section}.{key.name}", key


def value_of(config: Config, key: str) -> Any:
    """The value of a setting by its key."""
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)
