"""Parcels: what travels between the grid and its workers, and what need not travel twice."""

from multiprocessing.connection import Pipe
from threading import Thread

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from daafl.flower import adopt_task_identity
from daafl.simulation import wire
from daafl.simulation.wire import INLINE_BYTES, Shelf, packed, receive, send, unpacked

LARGE = bytes(INLINE_BYTES)


def test_large_byte_strings_stay_outside_the_pickle_and_are_not_copied() -> None:
    parcel = packed({"model": LARGE, "again": LARGE, "small": b"abc"})
    assert len(parcel.frame) < 200
    assert [blob is LARGE for blob in parcel.blobs] == [True]
    assert parcel.num_bytes == len(parcel.frame) + INLINE_BYTES
    value = unpacked(parcel)
    assert value == {"model": LARGE, "again": LARGE, "small": b"abc"}
    assert isinstance(value, dict)
    assert value["model"] is LARGE


def test_equal_but_different_byte_strings_both_travel() -> None:
    twin = bytes(bytearray(LARGE))
    assert twin is not LARGE
    assert len(packed([LARGE, twin]).blobs) == 2


def test_a_message_keeps_its_arrays_and_shares_no_record() -> None:
    adopt_task_identity(run_id=1)
    array = np.arange(INLINE_BYTES, dtype=np.uint8)
    content = RecordDict({"arrays": ArrayRecord([array]), "config": ConfigRecord({"lr": 0.1})})
    message = Message(content, 1000, "train")
    parcel = packed(message)
    first, second = unpacked(parcel), unpacked(parcel)
    assert isinstance(first, Message)
    assert isinstance(second, Message)
    first.content["config"]["lr"] = 9.0
    first.content["arrays"].pop("0")
    assert second.content["config"]["lr"] == message.content["config"]["lr"] == 0.1
    assert np.array_equal(second.content["arrays"].to_numpy_ndarrays()[0], array)
    assert first.metadata == message.metadata


def test_what_is_sent_is_received() -> None:
    ours, theirs = Pipe()
    value = {"blobs": [LARGE, bytes(3_000_000)], "text": "x"}
    sender = Thread(target=send, args=(ours, value))
    sender.start()
    assert receive(theirs) == value
    sender.join()
    ours.close()
    with pytest.raises(EOFError):
        receive(theirs)
    theirs.close()


def test_a_worker_is_sent_a_model_once() -> None:
    shelf = Shelf()
    assert shelf.admit([LARGE]) == ({id(LARGE): LARGE}, ())
    assert shelf.admit([LARGE]) == ({}, ())


def test_the_shelf_drops_what_was_unused_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "SHELF_BYTES", 250)
    one, two, three = (bytes([value]) * 100 for value in range(3))
    shelf = Shelf()
    shelf.admit([one])
    shelf.admit([two])
    shelf.admit([one])
    assert shelf.admit([three]) == ({id(three): three}, (id(two),))
    assert shelf.admit([one])[0] == {}
    assert shelf.admit([two]) == ({id(two): two}, (id(three),))


def test_a_message_above_the_shelfs_size_keeps_all_its_byte_strings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "SHELF_BYTES", 150)
    one, two, three = (bytes([value]) * 100 for value in range(3))
    shelf = Shelf()
    assert shelf.admit([one, two]) == ({id(one): one, id(two): two}, ())
    assert shelf.admit([three]) == ({id(three): three}, (id(one), id(two)))


def test_an_array_made_from_lazy_bytes_travels_as_it_is() -> None:
    record = ArrayRecord({"packed": Array(np.zeros(INLINE_BYTES, np.uint8))})
    assert unpacked(packed(record)) == record
