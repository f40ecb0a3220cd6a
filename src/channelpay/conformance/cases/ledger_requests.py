"""Requests to the ledger as such: shape, signature, validity, identity. Spec 8.2."""

from __future__ import annotations

from channelpay.codec import pack
from channelpay.conformance.case import case
from channelpay.conformance.kit import Kit
from channelpay.conformance.verdict import require, same
from channelpay.errors import ErrorCode
from channelpay.ledger.outcomes import Outcome
from channelpay.limits import MAX_REQUEST_LIFE_S
from channelpay.messages import ledger as ops
from channelpay.messages.ledger import LedgerRequest
from channelpay.messages.peer import Pay, Ping, Pong, Request, Role

_SMALL_ORDER = bytes([1]) + bytes(31)


@case("L-4 T-15 S-19")
def ledger_answers_signed(kit: Kit) -> None:
    """Every answer is signed by the ledger's identity, with the request's hash"""
    info = kit.ledger.info()
    same(info.ledger_id, kit.runner.ledger_id, "ledger_id")
    require(info.min_window_s <= info.max_window_s, "min_window_s is above max_window_s")


@case("T-14")
def ledger_takes_nodes_and_clients(kit: Kit) -> None:
    """Nodes and ledger clients may connect, and are equal"""
    for role in (Role.NODE, Role.LEDGER_CLIENT):
        talk = kit.dial_ledger(kit.key(), role).handshake()
        talk.send(Ping(3))
        same(talk.expect(Pong).token, 3, "the token of PONG")


@case("T-22")
def ledger_refuses_messages_of_nodes(kit: Kit) -> None:
    """A PAY is not for a ledger"""
    talk = kit.dial_ledger().handshake()
    talk.send(Pay(bytes(32), 1, bytes(24), b"", 0, bytes(64)))
    talk.expect_error(ErrorCode.UNEXPECTED)


@case("L-3 L-5 L-10")
def request_no_request(kit: Kit) -> None:
    """A blob of another shape is bad-request"""
    key = kit.key()
    good = LedgerRequest(key.public, 0, ops.Info()).encode()
    for blob in (
        b"\xc0", good + b"\x00", pack(["info", key.public, 0]), pack(["info", key.public, 0, [], 1]),
        pack(["info", key.public[:31], 0, []]), pack(["info", key.public, -1, []]),
        pack(["nonsense", key.public, 0, []]), pack(["info", key.public, 0, [1]]),
        pack(["channel", key.public, 0, [bytes(31)]]),
    ):  # fmt: skip
        kit.ledger.refused_request(kit.ledger.signed(key, blob), Outcome.BAD_REQUEST)


@case("L-5 L-10")
def request_not_shortest(kit: Kit) -> None:
    """A blob with an integer in a longer form is bad-request"""
    key = kit.key()
    good = LedgerRequest(key.public, 5, ops.Info()).encode()
    blob = good.replace(b"\x05\x90", b"\xcc\x05\x90")
    kit.ledger.refused_request(kit.ledger.signed(key, blob), Outcome.BAD_REQUEST)


@case("L-5 S-18")
def request_bad_signature(kit: Kit) -> None:
    """A request that is not signed by its key is refused"""
    request = kit.ledger.request(kit.key(), ops.Info())
    other = kit.ledger.signed(kit.key(), request.blob, request.request_id)
    kit.ledger.refused_request(other, Outcome.BAD_SIGNATURE)


@case("L-5 S-18")
def request_with_another_id(kit: Kit) -> None:
    """The signature binds the request id"""
    request = kit.ledger.request(kit.account, _transfer(kit, kit.account.public, 1))
    moved = Request(kit.runner.entropy(16), request.blob, request.signature)
    kit.ledger.refused_request(moved, Outcome.BAD_SIGNATURE)


@case("L-5 S-18")
def request_for_another_ledger(kit: Kit) -> None:
    """A request signed for another ledger is bad-signature here"""
    request = kit.ledger.request(kit.account, _transfer(kit, kit.account.public, 1), ledger_id=kit.key().public)
    kit.ledger.refused_request(request, Outcome.BAD_SIGNATURE)


@case("L-5 S-3")
def request_small_order_key(kit: Kit) -> None:
    """A request by a key of small order, for which anyone can sign, is bad-signature"""
    blob = LedgerRequest(_SMALL_ORDER, 0, ops.Info()).encode()
    request = Request(kit.runner.entropy(16), blob, bytes([1]) + bytes(63))
    kit.ledger.refused_request(request, Outcome.BAD_SIGNATURE)


@case("L-6")
def request_expired(kit: Kit) -> None:
    """A change whose valid_until has passed is expired, and changes nothing"""
    purse = kit.purse(5)
    until = kit.ledger.time() - 1
    request = kit.ledger.request(purse, _transfer(kit, kit.account.public, 5), valid_until=until)
    kit.ledger.refused_request(request, Outcome.EXPIRED)
    same(kit.ledger.units(purse.public, kit.asset_id), 5, "what the account holds")


@case("L-6")
def request_too_far_ahead(kit: Kit) -> None:
    """A change valid for more than an hour is refused"""
    until = kit.ledger.time() + MAX_REQUEST_LIFE_S + 100
    request = kit.ledger.request(kit.account, _transfer(kit, kit.account.public, 1), valid_until=until)
    kit.ledger.refused_request(request, Outcome.TOO_FAR_AHEAD)


@case("L-7")
def readings_need_no_validity(kit: Kit) -> None:
    """A reading is answered whatever its valid_until"""
    for until in (0, 2**62):
        request = kit.ledger.request(kit.key(), ops.Account(kit.account.public), valid_until=until)
        same(kit.ledger.exchange(request).outcome, 0, "the outcome")


@case("L-8")
def request_repeated_executes_once(kit: Kit) -> None:
    """The same request again gets the same answer and moves nothing, on another connection too"""
    purse = kit.purse(10)
    request = kit.ledger.request(purse, _transfer(kit, kit.account.public, 3))
    first = kit.ledger.exchange(request)
    same(first.outcome, 0, "the outcome")
    for again in (kit.ledger.exchange(request), kit.new_ledger().exchange(request)):
        same((again.outcome, again.body), (0, first.body), "the answer to the same request again")
    same(kit.ledger.units(purse.public, kit.asset_id), 7, "what the account holds")


@case("L-8")
def request_id_reused(kit: Kit) -> None:
    """The same id of a key with another blob is refused"""
    purse = kit.purse(10)
    first = kit.ledger.request(purse, _transfer(kit, kit.account.public, 3))
    same(kit.ledger.exchange(first).outcome, 0, "the outcome")
    other = kit.ledger.request(purse, _transfer(kit, kit.account.public, 4), request_id=first.request_id)
    kit.ledger.refused_request(other, Outcome.REQUEST_ID_REUSED)


@case("L-8")
def request_id_of_another_key(kit: Kit) -> None:
    """Request ids are each key's own"""
    first, second = kit.purse(10), kit.purse(10)
    name = kit.runner.entropy(16)
    for purse in (first, second):
        request = kit.ledger.request(purse, _transfer(kit, kit.account.public, 4), request_id=name)
        same(kit.ledger.exchange(request).outcome, 0, "the outcome")


@case("L-8 L-11")
def refusals_are_not_stored(kit: Kit) -> None:
    """A request that was refused is judged anew when it comes again"""
    purse = kit.purse()
    request = kit.ledger.request(purse, _transfer(kit, kit.account.public, 3))
    kit.ledger.refused_request(request, Outcome.INSUFFICIENT_FUNDS)
    kit.ledger.answer(kit.account, _transfer(kit, purse.public, 3))
    same(kit.ledger.exchange(request).outcome, 0, "the outcome once there is money")


@case("L-4")
def requests_at_once_are_all_answered(kit: Kit) -> None:
    """Fifty requests in one piece get fifty answers"""
    purse = kit.purse(100)
    requests = [kit.ledger.request(purse, _transfer(kit, kit.account.public, 1)) for _ in range(50)]
    kit.ledger.talk.send(*requests)
    for request in requests:
        same(kit.ledger.answer_to(request).outcome, 0, "the outcome")
    same(kit.ledger.units(purse.public, kit.asset_id), 50, "what the account holds")


@case("L-10")
def refusal_of_lowest_number(kit: Kit) -> None:
    """A request with several faults is refused for the first in the table"""
    purse = kit.purse()
    nothing = ops.Transfer(bytes(16), _SMALL_ORDER, 0)
    kit.ledger.refused(purse, nothing, Outcome.UNKNOWN_ASSET)
    kit.ledger.refused(purse, ops.Transfer(kit.asset_id, _SMALL_ORDER, 0), Outcome.ZERO_AMOUNT)
    kit.ledger.refused(purse, ops.Transfer(kit.asset_id, _SMALL_ORDER, 1), Outcome.KEY_REFUSED)
    late = kit.ledger.request(purse, nothing, valid_until=1)
    kit.ledger.refused_request(late, Outcome.EXPIRED)


@case("L-14 L-15")
def ledger_time_and_number_rise(kit: Kit) -> None:
    """Time and journal number never go back, and every change has a number of its own"""
    before = kit.ledger.info()
    kit.purse(1)
    after = kit.ledger.info()
    require(after.time >= before.time, "the ledger's clock went back")
    require(after.number > before.number, "a change has no journal number")


def _transfer(kit: Kit, account: bytes, units: int) -> ops.Transfer:
    return ops.Transfer(kit.asset_id, account, units)
