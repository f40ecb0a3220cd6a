import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelpay.codec import pack
from channelpay.errors import ErrorCode, RemoteError
from channelpay.messages.ledger import OPERATIONS, AssetView, Info, LedgerRequest, Operation, Transfer
from records import FEW, outcome, records

KEY = bytes(range(32))


def test_every_operation_has_its_name() -> None:
    assert all(name == kind.OP for name, kind in OPERATIONS.items())
    assert {kind.__name__ for kind in OPERATIONS.values()} == {kind.__name__ for kind in Operation.__subclasses__()}


@pytest.mark.parametrize("op", OPERATIONS)
@FEW
@given(data=st.data())
def test_every_request_comes_back_as_it_went(op: str, data: st.DataObject) -> None:
    operation = data.draw(records(OPERATIONS[op]))
    request = LedgerRequest(KEY, 1_750_000_000, operation)  # type: ignore[arg-type]
    assert LedgerRequest.decode(request.encode()) == request


@pytest.mark.parametrize(
    ("wire", "said"),
    [
        ([], "a request is"),
        (["info", KEY, 0], "a request is"),
        (["info", KEY, 0, [], 0], "a request is"),
        (["info", KEY, 0, None], "a request is"),
        (["info", KEY[:31], 0, []], "request.key: expected 32 bytes"),
        (["info", KEY, 2**63, []], "request.valid_until: expected an integer 0 .. 2^63-1"),
        (["info", KEY, True, []], "request.valid_until"),
        ([b"info", KEY, 0, []], "request.op: expected text"),
        (["i" * 17, KEY, 0, []], "request.op: expected text of at most 16 bytes"),
        (["mint", KEY, 0, []], "unknown operation 'mint'"),
        (["info", KEY, 0, [0]], "Info has 0 fields, not 1"),
        (["transfer", KEY, 0, [bytes(16), KEY, -1]], "Transfer.units"),
    ],
)
def test_a_bad_blob_is_malformed_and_says_where(wire: list[object], said: str) -> None:
    with pytest.raises(RemoteError) as caught:
        LedgerRequest.decode(pack(wire))
    assert caught.value.code is ErrorCode.MALFORMED
    assert said in caught.value.text


@given(st.binary(max_size=100))
def test_any_bytes_are_a_request_or_malformed(blob: bytes) -> None:
    found = outcome(lambda: LedgerRequest.decode(blob))
    assert found is ErrorCode.MALFORMED or found.encode() == blob


def test_two_operations_have_two_blobs() -> None:
    blobs = {LedgerRequest(KEY, t, op).encode() for t in (1, 2) for op in (Info(), Transfer(bytes(16), KEY, 1))}
    assert len(blobs) == 4


@pytest.mark.parametrize(("code", "scale"), [("usd", 6), ("", 6), ("USD\n", 6), ("\u00c9UR", 6), ("USD", 19)])
def test_a_ledger_cannot_show_an_asset_that_is_none(code: str, scale: int) -> None:
    with pytest.raises(RemoteError, match="AssetView"):
        AssetView.from_wire([bytes(16), code, scale, KEY])
