"""Accounts and assets. Spec L-1, L-17, L-18."""

from __future__ import annotations

from channelpay.conformance.case import case
from channelpay.conformance.kit import Kit
from channelpay.conformance.verdict import require, same
from channelpay.ledger.outcomes import Outcome
from channelpay.messages import ledger as ops
from channelpay.messages.ledger import AccountView
from channelpay.statements import asset_id

_SMALL_ORDER = bytes([1]) + bytes(31)


@case("L-18 L-1")
def transfer_moves_money(kit: Kit) -> None:
    """A transfer takes from one account what it gives to the other, and shows the payer's balance"""
    first, second = kit.purse(10), kit.purse()
    view = kit.ledger.ask(first, ops.Transfer(kit.asset_id, second.public, 4), AccountView)
    same(view.account, first.public, "the account in the answer")
    same([h.units for h in view.holdings if h.asset_id == kit.asset_id], [6], "what the payer holds")
    same(kit.ledger.units(second.public, kit.asset_id), 4, "what the payee holds")


@case("L-18 L-11")
def transfer_above_holding(kit: Kit) -> None:
    """Nobody transfers more than it holds"""
    purse = kit.purse(5)
    kit.ledger.refused(purse, ops.Transfer(kit.asset_id, kit.account.public, 6), Outcome.INSUFFICIENT_FUNDS)
    same(kit.ledger.units(purse.public, kit.asset_id), 5, "what the account holds")


@case("L-18")
def transfer_of_nothing(kit: Kit) -> None:
    """A transfer is at least one unit"""
    kit.ledger.refused(kit.account, ops.Transfer(kit.asset_id, kit.key().public, 0), Outcome.ZERO_AMOUNT)


@case("S-3")
def transfer_to_unsound_key(kit: Kit) -> None:
    """Money is not moved to a key of small order"""
    kit.ledger.refused(kit.account, ops.Transfer(kit.asset_id, _SMALL_ORDER, 1), Outcome.KEY_REFUSED)


@case("L-18")
def transfer_of_unknown_asset(kit: Kit) -> None:
    """An asset that is not registered is refused"""
    kit.ledger.refused(kit.account, ops.Transfer(bytes(16), kit.key().public, 1), Outcome.UNKNOWN_ASSET)


@case("L-18")
def redeem_takes_money_out(kit: Kit) -> None:
    """Whoever holds money may redeem it; more than it holds it may not"""
    purse = kit.purse(5)
    kit.ledger.refused(purse, ops.Redeem(kit.asset_id, 6), Outcome.INSUFFICIENT_FUNDS)
    kit.ledger.refused(purse, ops.Redeem(kit.asset_id, 0), Outcome.ZERO_AMOUNT)
    kit.ledger.answer(purse, ops.Redeem(kit.asset_id, 1))
    same(kit.ledger.units(purse.public, kit.asset_id), 4, "what the account holds")


@case("L-18")
def issue_by_others(kit: Kit) -> None:
    """Only the issuer makes money"""
    purse = kit.purse()
    kit.ledger.refused(purse, ops.Issue(kit.asset_id, purse.public, 1_000), Outcome.NOT_ISSUER)
    kit.ledger.refused(purse, ops.Issue(bytes(16), purse.public, 1_000), Outcome.UNKNOWN_ASSET)
    same(kit.ledger.units(purse.public, kit.asset_id), 0, "what the account holds")


@case("L-17")
def asset_by_others(kit: Kit) -> None:
    """Only the operator registers assets"""
    purse = kit.purse()
    kit.ledger.refused(purse, ops.CreateAsset("KITCOIN", 2, purse.public), Outcome.NOT_OPERATOR)


@case("S-8 M-3 M-7 L-17")
def asset_ids_are_computed(kit: Kit) -> None:
    """Every asset's id is made of ledger, issuer, scale and code; codes are sound and given once"""
    assets = kit.info.assets
    for asset in assets:
        same(asset.asset_id, asset_id(kit.runner.ledger_id, asset.issuer, asset.scale, asset.code), "asset_id")
    same(len({asset.code for asset in assets}), len(assets), "how many codes there are")


@case("L-14")
def account_unknown_holds_nothing(kit: Kit) -> None:
    """A key that nobody has named is an account that holds nothing"""
    key = kit.key()
    view = kit.ledger.ask(key, ops.Account(key.public), AccountView)
    same((view.account, view.holdings), (key.public, ()), "the account")


@case("L-12")
def journal_tells_every_movement(kit: Kit) -> None:
    """The journal of an account has every movement once, in order, with the other side"""
    first, second = kit.purse(10), kit.purse()
    for units in (1, 2):
        kit.ledger.answer(first, ops.Transfer(kit.asset_id, second.public, units))
    page = kit.ledger.ask(first, ops.Journal(0), ops.JournalPage)
    told = [(entry.kind, entry.subject, entry.credit, entry.debit) for entry in page.entries]
    same(
        told,
        [
            ("transfer", kit.account.public, 10, 0),
            ("transfer", second.public, 0, 1),
            ("transfer", second.public, 0, 2),
        ],
        "the journal",
    )
    numbers = [entry.number for entry in page.entries]
    require(numbers == sorted(set(numbers)), "the numbers of the journal do not rise")
    rest = kit.ledger.ask(first, ops.Journal(numbers[0]), ops.JournalPage)
    same([entry.number for entry in rest.entries], numbers[1:], "the journal after its first entry")
