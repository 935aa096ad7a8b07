"""Messages through pipes: in order, of any size, without blocking, until the other end is closed."""

import asyncio
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard_client.worker.executors.pipes import LineBuffer, PipeReader, PipeWriter


@given(st.lists(st.binary(max_size=8).map(lambda line: line.replace(b"\n", b"")), max_size=8), st.data())
def test_lines_are_the_same_however_they_are_cut(lines, data):
    sent = b"".join(line + b"\n" for line in lines)
    buffer, received, position = LineBuffer(), [], 0

    while position < len(sent):
        size = data.draw(st.integers(1, len(sent) - position))
        received += buffer.feed(sent[position : position + size])
        position += size

    assert received == lines


@pytest.fixture
async def pipe():
    """A writer, a reader, the queue of what arrives (None is the end), and the read end."""
    loop = asyncio.get_running_loop()
    read_fd, write_fd = os.pipe()
    arrived: asyncio.Queue[object] = asyncio.Queue()
    writer = PipeWriter(loop, write_fd)
    reader = PipeReader(loop, read_fd, arrived.put_nowait, lambda: arrived.put_nowait(None))
    yield writer, reader, arrived
    writer.close()
    reader.close()


async def test_messages_of_any_size_arrive_in_order(pipe):
    writer, _reader, arrived = pipe
    messages = [{"number": number, "text": "x" * size} for number, size in enumerate([0, 3_000_000, 10, 100_000, 0])]

    for message in messages:
        writer.send(message)

    assert [await asyncio.wait_for(arrived.get(), 30) for _ in messages] == messages


async def test_sending_into_a_full_pipe_does_not_block(pipe):
    writer, reader, arrived = pipe
    reader._loop.remove_reader(reader._fd)

    for number in range(100):
        writer.send("x" * 100_000)
        await asyncio.sleep(0)
        writer.send(number)
    reader._loop.add_reader(reader._fd, reader.read)

    received = [await asyncio.wait_for(arrived.get(), 30) for _ in range(200)]
    assert received[1::2] == list(range(100))


async def test_the_end_of_the_pipe_is_reported_once(pipe):
    writer, reader, arrived = pipe
    writer.send("last")
    await asyncio.sleep(0)
    writer.close()

    assert await asyncio.wait_for(arrived.get(), 30) == "last"
    assert await asyncio.wait_for(arrived.get(), 30) is None
    assert reader.read() is False
    assert arrived.empty()


async def test_messages_after_the_end_are_dropped(pipe):
    writer, reader, _arrived = pipe
    reader.close()

    for _ in range(3):
        writer.send("x" * 1_000_000)
        await asyncio.sleep(0)

    assert not writer._is_open


async def test_a_message_that_cannot_be_handled_is_logged_and_the_next_arrives(caplog):
    loop, received = asyncio.get_running_loop(), asyncio.Queue()
    read_fd, write_fd = os.pipe()

    def handle(message):
        received.put_nowait(message["number"])

    reader = PipeReader(loop, read_fd, handle, lambda: None)
    os.write(write_fd, b'{"wrong": 1}\n{"number": 2}\n')

    assert await asyncio.wait_for(received.get(), 30) == 2
    assert "could not be handled" in caplog.text
    reader.close()
    os.close(write_fd)
