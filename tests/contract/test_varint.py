"""contract/varint.py against protobuf's own encoding."""

from __future__ import annotations

import pytest
from google.protobuf.wrappers_pb2 import UInt64Value
from hypothesis import given
from hypothesis import strategies as st

from contract.varint import encode_varint, read_varint


@given(st.integers(0, 2**64 - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_numbers_are_as_protobuf_writes_them(value: int, before: bytes, after: bytes) -> None:
    """A number has protobuf's bytes, and is read back from among other bytes."""
    encoded = encode_varint(value)
    assert (b"\x08" + encoded if value else b"") == UInt64Value(value=value).SerializeToString()
    assert (value, len(before) + len(encoded)) == read_varint(before + encoded + after, len(before))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 9, b"\xff" * 11], ids=["none", "one", "cut off", "too long"])
def test_numbers_that_do_not_end_are_refused(data: bytes) -> None:
    """The error says after how many bytes."""
    with pytest.raises(ValueError, match=f"at most 10 bytes. Received: another before byte {min(10, len(data))}$"):
        read_varint(data, 0)
