"""API tokens: where they are read from, and when a new one is read."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from faulty_proxy import faulty_proxy
from runyard_client.errors import NotAllowed
from runyard_client.testing.server import RunyardServer, start_server
from runyard_client.transport.http import Transport
from runyard_client.transport.tokens import InvalidToken, TokenSource

UNKNOWN_ID = "0192f1f5-77a0-7c4e-b5d0-3f1c6a2e9b10"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("private")


@pytest.fixture(scope="module")
def token(folder: Path) -> str:
    """A token with the scope `read`."""
    return subprocess.run(
        [sys.executable, "-m", "runyard", "token", "create", "--scope", "read"],
        env={**os.environ, "RUNYARD_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/runyard.db"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.split()[-1]


@pytest.fixture(scope="module")
def private_server(folder: Path, token: str) -> Iterator[RunyardServer]:
    """A server that requires tokens. It does not start without one, such as `token`."""
    with start_server(folder, RUNYARD_ACCESS="tokens") as running:
        yield running


def test_a_token_comes_from_the_argument_then_the_variable_then_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert TokenSource().current() is None
    (tmp_path / "token").write_text("from-file\n")
    monkeypatch.setenv("RUNYARD_TOKEN_FILE", str(tmp_path / "token"))
    assert TokenSource().current() == "from-file"
    monkeypatch.setenv("RUNYARD_TOKEN", "from-variable")
    assert TokenSource().current() == "from-variable"
    assert TokenSource(lambda: "from-function").current() == "from-function"
    assert TokenSource("from-argument").current() == "from-argument"


def test_reading_again_returns_whether_the_token_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("first")
    monkeypatch.setenv("RUNYARD_TOKEN_FILE", str(tmp_path / "token"))
    source = TokenSource()

    assert source.current() == "first"
    assert source.reread() is False
    (tmp_path / "token").write_text("second")
    assert source.current() == "first"
    assert source.reread() is True
    assert source.current() == "second"


@pytest.mark.parametrize("token", ["two words", "line\r\nbreak: x", "größe"])
def test_a_token_that_no_header_can_have_is_refused_without_being_shown(token: str) -> None:
    with pytest.raises(InvalidToken) as raised:
        TokenSource(token).current()

    assert token not in str(raised.value)


async def test_a_token_is_sent(private_server: RunyardServer, token: str) -> None:
    transport = Transport(private_server.url, TokenSource(token))

    assert await transport.execute("GetTaskRun", {"id": UNKNOWN_ID}) is None
    await transport.close()


async def test_a_missing_token_is_not_allowed(private_server: RunyardServer) -> None:
    transport = Transport(private_server.url, TokenSource())

    with pytest.raises(NotAllowed) as raised:
        await transport.execute("GetTaskRun", {"id": UNKNOWN_ID})
    await transport.close()

    assert raised.value.code == "UNAUTHENTICATED"


async def test_a_scope_that_does_not_allow_the_operation_is_named(private_server: RunyardServer, token: str) -> None:
    transport = Transport(private_server.url, TokenSource(token))

    with pytest.raises(NotAllowed, match="write") as raised:
        await transport.execute("CreateTaskRuns", {"inputs": []})
    await transport.close()

    assert raised.value.code == "FORBIDDEN"


async def test_a_token_that_was_replaced_in_its_file_is_read_when_the_old_one_is_refused(
    private_server: RunyardServer, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("not-valid")
    monkeypatch.setenv("RUNYARD_TOKEN_FILE", str(file))
    async with faulty_proxy(private_server.url) as proxy:
        transport = Transport(proxy.url, TokenSource())
        with pytest.raises(NotAllowed):
            await transport.execute("GetTaskRun", {"id": UNKNOWN_ID})
        assert [request.status for request in proxy.requests] == [401]

        file.write_text(token)

        assert await transport.execute("GetTaskRun", {"id": UNKNOWN_ID}) is None
        assert [request.status for request in proxy.requests] == [401, 401, 200, 200]
        await transport.close()


async def test_a_server_that_executes_trusted_documents_only_takes_the_documents_of_the_client(tmp_path: Path) -> None:
    manifest = Path(__file__).parent.parent / "runyard_client" / "contract" / "persisted-documents.json"
    with start_server(
        tmp_path, RUNYARD_TRUSTED_DOCUMENTS=str(manifest), RUNYARD_ONLY_TRUSTED_DOCUMENTS="true"
    ) as trusting:
        transport = Transport(trusting.url, TokenSource())
        assert await transport.execute("GetTaskRun", {"id": UNKNOWN_ID}) is None
        await transport.close()
