"""State dicts in a file: whole or refused."""

import json

import pytest
import torch
from safetensors.torch import load, save

from workers.models import DamagedStateError, pack_state, pack_with_digest, unpack_state

STATE = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2]), "s": torch.tensor(3)}


@pytest.mark.parametrize("pack", [pack_state, pack_with_digest])
def test_a_state_comes_back_here_and_in_safetensors_own_reader(pack: object) -> None:
    data = pack(STATE)  # type: ignore[operator]
    for read in (unpack_state(data), load(data)):
        assert read.keys() == STATE.keys()
        assert all(torch.equal(read[name], tensor) for name, tensor in STATE.items())


def test_equal_states_are_equal_bytes() -> None:
    assert pack_with_digest(STATE) == pack_with_digest({k: STATE[k] for k in reversed(STATE)})


def test_a_changed_byte_is_noticed_or_changes_no_tensor() -> None:
    data = pack_with_digest(STATE)
    start_of_tensors = 8 + int.from_bytes(data[:8], "little")
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        try:
            read = unpack_state(changed)
        except DamagedStateError:
            continue
        # A space after the header, or the digest's own name.
        assert place < start_of_tensors
        assert read.keys() == STATE.keys()
        assert all(torch.equal(read[name], tensor) for name, tensor in STATE.items())


def test_any_missing_end_is_noticed() -> None:
    data = pack_with_digest(STATE)
    for length in range(len(data)):
        with pytest.raises(DamagedStateError):
            unpack_state(data[:length])
    with pytest.raises(DamagedStateError):
        unpack_state(data + b"x")


def test_other_tensors_under_an_old_digest_are_refused() -> None:
    header = json.loads(pack_with_digest(STATE)[8:].split(b"}", 1)[0] + b"}}")
    with pytest.raises(DamagedStateError, match="sha256 differs"):
        unpack_state(save({"w": torch.zeros(2)}, metadata=header["__metadata__"]))


def test_what_an_earlier_version_wrote_has_no_digest_and_reads() -> None:
    assert unpack_state(save(STATE)).keys() == STATE.keys()
    assert b"__metadata__" not in pack_state(STATE)
