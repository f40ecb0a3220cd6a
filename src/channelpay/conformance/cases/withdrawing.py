"""Withdrawals by consent, claims, top-ups of the node. Spec 7.3 and 7.4."""

from __future__ import annotations

from channelpay.batches import Batch, pack_record
from channelpay.conformance.case import case
from channelpay.conformance.cases.node_pays import refused, rich
from channelpay.conformance.cases.reconnecting import meet
from channelpay.conformance.kit import Kit
from channelpay.conformance.party import Party
from channelpay.conformance.runner import ControlRefused
from channelpay.conformance.verdict import Violation, require, same
from channelpay.errors import ErrorCode, code_name
from channelpay.limits import FINAL_EXPIRY_S
from channelpay.messages import ledger as ops
from channelpay.messages.peer import OpenWithdrawal, WithdrawAsk, WithdrawNo, WithdrawOk
from channelpay.statements import FLAG_ONE_WAY


def ask(kit: Kit, party: Party, total: int, expiry: int = 0) -> WithdrawAsk:
    """WITHDRAW-ASK of the kit's, for ten minutes unless told otherwise."""
    expiry = expiry or kit.ledger.time() + 600
    signature = party.key.sign(party.withdraw_statement(party.side, total, expiry))
    return WithdrawAsk(party.channel_id, total, expiry, signature)


def consented(party: Party, asked: WithdrawAsk) -> WithdrawOk:
    """The node consents, with a signature over exactly this (X-8)."""
    party.link.send(asked)
    answer = party.link.expect(WithdrawOk)
    same((answer.total, answer.expiry), (asked.total, asked.expiry), "total and expiry of WITHDRAW-OK")
    statement = party.withdraw_statement(party.side, asked.total, asked.expiry)
    party.verify(answer.signature, statement, "WITHDRAW-OK")
    return answer


def declined(party: Party, asked: WithdrawAsk, code: ErrorCode) -> None:
    """The node says NO, for this reason."""
    party.link.send(asked)
    answer = party.link.expect(WithdrawNo)
    same((answer.total, answer.expiry), (asked.total, asked.expiry), "total and expiry of WITHDRAW-NO")
    same(code_name(answer.code), code_name(code), "the code of WITHDRAW-NO")


def execute(kit: Kit, party: Party, asked: WithdrawAsk, answer: WithdrawOk) -> None:
    """Hand the agreement to the ledger (L-32)."""
    operation = ops.Withdraw(party.channel_id, party.side, asked.total, asked.expiry, asked.signature, answer.signature)
    view = kit.ledger.channel_op(kit.account, operation)
    same(view.withdrawn0, asked.total, "what was withdrawn")


@case("X-8 S-13 L-32")
def withdraw_consented(kit: Kit) -> None:
    """The node consents to what the kit can spare, the ledger pays it, and the channel goes on"""
    party = kit.open()
    party.pay(10)
    asked = ask(kit, party, 400)
    execute(kit, party, asked, consented(party, asked))
    party.pay(20)


@case("X-8")
def withdraw_all_there_is(kit: Kit) -> None:
    """The whole balance may be withdrawn, and not a unit more"""
    party = kit.open()
    party.pay(10)
    declined(party, ask(kit, party, kit.deposit - 9), ErrorCode.BALANCE)
    consented(party, ask(kit, party, kit.deposit - 10))


@case("X-8 X-9")
def withdraw_asked_again(kit: Kit) -> None:
    """The same ASK again gets the same signature"""
    party = kit.open()
    asked = ask(kit, party, 400)
    first = consented(party, asked)
    same(consented(party, asked), first, "the answer to the same ASK again")


@case("X-8")
def withdraw_one_at_a_time(kit: Kit) -> None:
    """A second withdrawal while one is open is declined"""
    party = kit.open()
    consented(party, ask(kit, party, 400))
    declined(party, ask(kit, party, 500), ErrorCode.WITHDRAW_REFUSED)


@case("X-8 X-6")
def withdraw_expired(kit: Kit) -> None:
    """An ASK that has expired, or reaches more than two hours ahead, is declined"""
    party = kit.open()
    declined(party, ask(kit, party, 400, kit.ledger.time() - 5), ErrorCode.EXPIRY_REFUSED)
    far = kit.ledger.time() + 2 * FINAL_EXPIRY_S + 120
    declined(party, ask(kit, party, 400, far), ErrorCode.EXPIRY_REFUSED)
    consented(party, ask(kit, party, 400))


@case("X-8")
def withdraw_nothing_new(kit: Kit) -> None:
    """A total that is not above what was withdrawn is declined"""
    party = kit.open()
    declined(party, ask(kit, party, 0), ErrorCode.WITHDRAW_REFUSED)


@case("X-8")
def withdraw_bad_signature(kit: Kit) -> None:
    """An ASK that its sender has not signed ends the connection"""
    party = kit.open()
    good = ask(kit, party, 400)
    party.refused(WithdrawAsk(good.channel_id, 401, good.expiry, good.signature), ErrorCode.BAD_SIGNATURE)


@case("X-10 C-8")
def withdraw_is_held(kit: Kit) -> None:
    """What the node has consented to counts against the kit's balance at once, before the ledger knows"""
    party = kit.open()
    consented(party, ask(kit, party, kit.deposit - 100))
    party.pay(100)
    batch = Batch(party.own.n + 1, pack_record(10), b"")
    party.refused(party.wrong_pay(batch), ErrorCode.BALANCE)


@case("X-10 C-8", takes_s=12)
def withdraw_hold_ends(kit: Kit) -> None:
    """The hold ends when a reading shows that the agreement has expired unused"""
    party = kit.open()
    expiry = kit.ledger.time() + 4
    consented(party, ask(kit, party, kit.deposit - 100, expiry))
    kit.until(lambda: kit.ledger.time() > expiry, 10, "the expiry on the ledger's clock")
    party.pay(500)


@case("X-10 C-20")
def withdraw_shown_after_a_reconnection(kit: Kit) -> None:
    """REESTABLISH shows an agreement that may still execute, and the node still holds it"""
    party = kit.open()
    asked = ask(kit, party, kit.deposit - 100)
    answer = consented(party, asked)
    shown = meet(kit, party)
    wanted = OpenWithdrawal(0, asked.total, asked.expiry, asked.signature, answer.signature)
    same(shown.withdrawals, (wanted,), "the withdrawals in REESTABLISH")
    party.refused(party.wrong_pay(Batch(1, pack_record(200), b"")), ErrorCode.BALANCE)


@case("C-1 X-10", needs="kill start", alone=True)
def withdraw_hold_survives_a_crash(kit: Kit) -> None:
    """The hold is durable before the consent leaves"""
    party = kit.open()
    asked = ask(kit, party, kit.deposit - 100)
    answer = consented(party, asked)
    kit.order("kill")
    kit.order("start")
    shown = meet(kit, party)
    wanted = OpenWithdrawal(0, asked.total, asked.expiry, asked.signature, answer.signature)
    same(shown.withdrawals, (wanted,), "the withdrawals in REESTABLISH after a crash")
    same(consented(party, asked), answer, "the answer to the same ASK after a crash")
    party.refused(party.wrong_pay(Batch(1, pack_record(200), b"")), ErrorCode.BALANCE)


@case("X-10 C-23", needs="kill start snapshot restore", alone=True)
def withdraw_comes_back_after_a_rollback(kit: Kit) -> None:
    """An agreement with the node's signature, shown in REESTABLISH, is held again by a node that forgot it"""
    party = kit.open()
    party.pay(10)
    kit.order("kill")
    kit.order("snapshot")
    kit.order("start")
    kit.reconnect(party)
    asked = ask(kit, party, kit.deposit - 100)
    answer = consented(party, asked)
    kit.order("kill")
    kit.order("restore")
    kit.order("start")
    held = OpenWithdrawal(0, asked.total, asked.expiry, asked.signature, answer.signature)
    meet(kit, party, withdrawals=(held,))
    party.refused(party.wrong_pay(Batch(party.own.n + 1, pack_record(200), b"")), ErrorCode.BALANCE)


# --- The node asks -----------------------------------------------------------------------------


def _asked_by_node(kit: Kit, party: Party, units: int) -> WithdrawAsk:
    message = party.link.expect(WithdrawAsk)
    same((message.channel_id, message.total), (party.channel_id, units), "channel and total of WITHDRAW-ASK")
    statement = party.withdraw_statement(1 - party.side, message.total, message.expiry)
    party.verify(message.signature, statement, "WITHDRAW-ASK")
    now = kit.ledger.time()
    require(now < message.expiry <= now + FINAL_EXPIRY_S + 60, f"the ASK expires at {message.expiry}; it is {now}")
    return message


def _ok(party: Party, asked: WithdrawAsk) -> WithdrawOk:
    statement = party.withdraw_statement(1 - party.side, asked.total, asked.expiry)
    return WithdrawOk(party.channel_id, asked.total, asked.expiry, party.key.sign(statement))


@case("X-8 X-6 L-32", needs="withdraw")
def node_withdraws(kit: Kit) -> None:
    """The node asks, and hands the agreement to the ledger"""
    party = rich(kit)
    call = kit.start("withdraw", channel=party.channel_id.hex(), amount="400")
    party.link.send(_ok(party, _asked_by_node(kit, party, 400)))
    call.result(kit.runner.patience_s)
    same(kit.ledger.channel(party.channel_id).withdrawn1, 400, "what was withdrawn")
    party.pay(10)


@case("X-10", needs="withdraw pay")
def node_holds_what_it_asked_for(kit: Kit) -> None:
    """Until it is answered, what the node asked for is not there to be paid; after NO it is again"""
    party = rich(kit)
    call = kit.start("withdraw", channel=party.channel_id.hex(), amount="900")
    asked = _asked_by_node(kit, party, 900)
    refused(kit, party, 101, "what it asks to withdraw")
    no = WithdrawNo(party.channel_id, asked.total, asked.expiry, int(ErrorCode.WITHDRAW_REFUSED))
    party.link.send(no)
    try:
        call.result(kit.runner.patience_s)
    except ControlRefused:
        pass
    else:
        raise Violation("the node says that it has withdrawn what the kit refused")
    kit.order_pay(party, 500)
    party.expect_pay()
    party.ack()


@case("X-8", needs="withdraw")
def node_refuses_a_bad_consent(kit: Kit) -> None:
    """WITHDRAW-OK that its sender has not signed ends the connection"""
    party = rich(kit)
    kit.start("withdraw", channel=party.channel_id.hex(), amount="400")
    asked = _asked_by_node(kit, party, 400)
    party.refused(WithdrawOk(party.channel_id, asked.total, asked.expiry, bytes(64)), ErrorCode.BAD_SIGNATURE)


@case("X-9", needs="withdraw")
def node_asks_again(kit: Kit) -> None:
    """An ASK without an answer comes again as it was after REESTABLISH, which shows it too"""
    party = rich(kit)
    kit.start("withdraw", channel=party.channel_id.hex(), amount="400")
    asked = _asked_by_node(kit, party, 400)
    shown = meet(kit, party)
    wanted = OpenWithdrawal(1, asked.total, asked.expiry, None, asked.signature)
    same(shown.withdrawals, (wanted,), "the withdrawals in REESTABLISH")
    same(party.link.expect(WithdrawAsk), asked, "the ASK that comes again")


@case("X-8")
def answers_unasked_are_ignored(kit: Kit) -> None:
    """WITHDRAW-OK and WITHDRAW-NO to an ASK that is not open are ignored"""
    party = kit.open()
    party.link.send(WithdrawOk(party.channel_id, 5, 5, bytes(64)), WithdrawNo(party.channel_id, 5, 5, 56))
    party.pay(10)


@case("X-11 L-33", needs="claim")
def node_claims(kit: Kit) -> None:
    """Party 1 of a one_way channel takes what it has been paid, and the channel goes on"""
    party = rich(kit, flags=FLAG_ONE_WAY)
    kit.order("claim", channel=party.channel_id.hex())
    kit.until(lambda: kit.ledger.channel(party.channel_id).withdrawn1 == 1_000, kit.runner.patience_s, "the claim")
    party.pay(10)


@case("L-31 C-8", needs="topup pay id")
def node_tops_up(kit: Kit) -> None:
    """The node puts in money of its own, and pays with it"""
    kit.node_account()
    party = kit.open()
    kit.order("topup", channel=party.channel_id.hex(), amount="300")
    kit.until(lambda: kit.ledger.channel(party.channel_id).deposit1 == 300, kit.runner.patience_s, "the top-up")
    call = kit.order_pay(party, 300)
    party.expect_pay()
    party.ack()
    call.result(kit.runner.patience_s)
