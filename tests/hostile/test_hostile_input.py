"""Whatever a client sends, it is told what is wrong with it, in the words of the contract, and the server goes on.

Of each kind some hundred examples, always the same ones; `python -m tests.hostile` sends as many others as one likes.
"""

from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile

import pytest

from tests.hostile.attacks import (
    attack_with_bytes,
    attack_with_frames,
    attack_with_generated,
    attack_with_messages,
    attack_with_ours,
    attack_with_requests,
)
from tests.hostile.target_server import Victim, victim
from tests.postgresql import PostgreSQLServer


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(
    request: pytest.FixtureRequest, migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Victim]:
    """One server for all of these tests, since starting one takes as long as attacking it."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("hostile") / "runyard.db"
        copyfile(migrated, path)
        with victim(f"sqlite+aiosqlite:///{path}") as started:
            yield started
    else:
        databases: PostgreSQLServer = request.getfixturevalue("postgresql")
        name = databases.lend()
        with victim(databases.url_of(name)) as started:
            yield started
        databases.take_back(name)


@pytest.fixture
def attacked(server: Victim) -> Iterator[Victim]:
    """The server, which has to be well afterwards."""
    server.answers.clear()
    yield server
    server.is_well()


ON_SQLITE = pytest.mark.parametrize("server", ["sqlite"], indirect=True)
"""For what never gets as far as the database."""


def test_operations_of_any_shape_are_answered(attacked: Victim) -> None:
    generator = attack_with_generated(attacked, 300)

    assert generator.missed_roots() == []
    assert len(generator.missed()) < 40, generator.told()
    assert attacked.answers["data"] >= 100


def test_our_documents_with_any_variables_are_answered(attacked: Victim) -> None:
    attack_with_ours(attacked, 150)

    assert attacked.answers["data"] >= 30
    assert attacked.answers["NOT_FOUND"] > 0
    assert attacked.answers["BAD_USER_INPUT"] > 0


@ON_SQLITE
def test_requests_of_any_shape_are_answered(attacked: Victim) -> None:
    attack_with_requests(attacked, 200)

    assert {"400", "405", "406", "415"} <= attacked.answers.keys()


@ON_SQLITE
def test_bytes_that_are_no_request_harm_nobody(attacked: Victim) -> None:
    attack_with_bytes(attacked, 80)


@ON_SQLITE
def test_messages_of_any_shape_are_answered_or_close_the_socket_with_a_code(attacked: Victim) -> None:
    attack_with_messages(attacked, 150)

    assert {"4400", "4409", "4429"} <= attacked.answers.keys()


@ON_SQLITE
def test_bytes_that_are_no_frames_harm_nobody(attacked: Victim) -> None:
    attack_with_frames(attacked, 60)
