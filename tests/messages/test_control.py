import pytest
from hypothesis import given
from hypothesis import strategies as st

from channelpay.codec import pack
from channelpay.errors import ErrorCode, RemoteError
from channelpay.messages import control
from channelpay.messages.schema import Record
from records import outcome


def test_every_method_has_its_name_and_a_result() -> None:
    assert all(name == kind.NAME for name, kind in control.METHODS.items())
    assert {kind.__name__ for kind in control.METHODS.values()} == {k.__name__ for k in control.Method.__subclasses__()}
    assert all(issubclass(kind.RESULT, Record) for kind in control.METHODS.values())


@given(st.integers(0, 255), st.binary(max_size=100))
def test_any_frame_is_a_message_or_malformed(kind: int, payload: bytes) -> None:
    found = outcome(lambda: control.decode(kind, payload))
    assert found is ErrorCode.MALFORMED or (found.TYPE, found.encode()) == (kind, payload)


def test_messages_between_peers_are_unknown_here() -> None:
    with pytest.raises(RemoteError, match="unknown control message type 0x04"):
        control.decode(0x04, pack([0]))
