from channelpay import limits
from channelpay.batches import NO_ID, pack_memos, pack_record
from channelpay.messages import control, peer

HEADER_LENGTH = 4  # the length itself is not counted in a frame's bound


def size(message: peer.Message) -> int:
    return len(message.to_frame()) - HEADER_LENGTH


def test_every_limit_is_positive_and_has_a_number() -> None:
    found = {name: value for name, value in vars(limits).items() if name.isupper()}
    assert len(found) > 40
    assert all(type(value) in (int, float) and value > 0 for value in found.values())


def test_the_largest_amount_is_what_a_database_holds() -> None:
    assert limits.MAX_UNITS == 9_223_372_036_854_775_807
    assert 9 * 10**limits.MAX_ASSET_SCALE <= limits.MAX_UNITS


def test_a_full_batch_fits_a_frame_and_a_local_one() -> None:
    records, memos = pack_record(limits.MAX_UNITS, b"\xff" * 16) * limits.MAX_BATCH, bytes(limits.MAX_MEMOS_BYTES)
    top = limits.MAX_UNITS
    assert size(peer.Pay(bytes(32), top, records, memos, top, bytes(64))) <= limits.MAX_FRAME
    past = (peer.PastBatch(top, records, memos),)
    assert size(peer.PastRecords(bytes(32), 1, past)) <= limits.MAX_FRAME
    assert size(control.PayMany(2**64 - 1, bytes(32), records, memos)) <= limits.MAX_CONTROL_FRAME


def test_what_a_ledger_sends_and_takes_fits_a_frame() -> None:
    assert size(peer.Request(bytes(16), bytes(limits.MAX_BLOB_BYTES), bytes(64))) <= limits.MAX_FRAME
    body = bytes(limits.MAX_BODY_BYTES)
    assert size(peer.Response(bytes(16), bytes(32), 65535, body, bytes(64))) <= limits.MAX_FRAME
    event = peer.Event(limits.MAX_UNITS, limits.MAX_UNITS, "x" * limits.MAX_TEXT_BYTES, bytes(32), body)
    assert size(event) <= limits.MAX_FRAME


def test_the_longest_handshake_fits_what_a_stranger_may_send() -> None:
    ledgers = (bytes(32),) * limits.MAX_LEDGERS
    versions, features = (65535,) * limits.MAX_VERSIONS, (65535,) * limits.MAX_FEATURES
    hello = peer.Hello(versions, features, 255, bytes(32), ledgers, "x" * limits.MAX_AGENT_BYTES)
    assert size(hello) <= limits.MAX_FRAME_BEFORE_AUTH
    assert size(peer.Auth(bytes(32), bytes(64))) <= limits.MAX_FRAME_BEFORE_AUTH


def test_memos_of_one_batch_are_within_the_items_of_an_array() -> None:
    assert limits.MAX_BATCH <= limits.MAX_ARRAY_ITEMS
    assert limits.MAX_RECORDS_BATCHES <= limits.MAX_ARRAY_ITEMS
    assert control.MAX_ROWS <= limits.MAX_ARRAY_ITEMS
    assert len(pack_memos([(0, bytes(limits.MAX_MEMO_BYTES))])) <= limits.MAX_MEMOS_BYTES


def test_a_record_has_24_bytes() -> None:
    assert len(pack_record(1, NO_ID)) == limits.RECORD_BYTES


def test_waits_end_before_the_shortest_thing_they_wait_for() -> None:
    assert limits.PING_INTERVAL_S < limits.PING_TIMEOUT_S
    assert limits.RECONNECT_MIN_S < limits.RECONNECT_MAX_S
    assert limits.MIN_WINDOW_S < limits.DEFAULT_WINDOW_S < limits.MAX_WINDOW_S
    assert limits.DEFAULT_MAX_UNACKED <= limits.MAX_MAX_UNACKED
    assert limits.MAX_FRAME < limits.MAX_OUTGOING_BYTES
