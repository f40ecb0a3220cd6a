"""Payment ids are UUIDv7."""

import time
import uuid

from channelpay.services.ids import new_payment_id


def test_an_id_is_a_uuid_of_version_7_stamped_with_the_present():
    before = time.time_ns() // 1_000_000
    payment_id = new_payment_id()
    after = time.time_ns() // 1_000_000
    parsed = uuid.UUID(bytes=payment_id)
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert before <= int.from_bytes(payment_id[:6], "big") <= after


def test_every_random_bit_is_used_and_the_fixed_bits_are_fixed():
    ids = [int.from_bytes(new_payment_id(), "big") for _ in range(400)]
    ones, zeros = 0, 0
    for value in ids:
        ones |= value
        zeros |= ~value
    both = ones & zeros & (2**80 - 1)  # bits below the time that were seen as 0 and as 1
    assert both == 2**80 - 1 - (0xF << 76) - (0x3 << 62)
    assert len(set(ids)) == len(ids)
