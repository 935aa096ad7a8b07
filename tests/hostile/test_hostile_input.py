"""Whatever a client sends, it gets a valid response or a documented error, and the server stays healthy.

Each attack sends a fixed set of examples; `python -m tests.hostile` sends any number of others.
"""

from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile

import pytest

from tests.hostile.attacks import (
    attack_with_bytes,
    attack_with_documents,
    attack_with_frames,
    attack_with_generated,
    attack_with_messages,
    attack_with_requests,
)
from tests.hostile.target_server import TargetServer, run_target_server
from tests.postgresql import PostgreSQLServer


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(
    request: pytest.FixtureRequest, migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TargetServer]:
    """One server per database for all tests, because starting it takes as long as an attack."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("hostile") / "runyard.db"
        copyfile(migrated, path)
        with run_target_server(f"sqlite+aiosqlite:///{path}") as started:
            yield started
    else:
        databases: PostgreSQLServer = request.getfixturevalue("postgresql")
        name = databases.acquire()
        with run_target_server(databases.url_of(name)) as started:
            yield started
        databases.release(name)


@pytest.fixture
def target(server: TargetServer) -> Iterator[TargetServer]:
    """The server, which must be healthy after the test."""
    server.outcomes.clear()
    yield server
    server.assert_healthy()


WITHOUT_DATABASE = pytest.mark.parametrize("server", ["sqlite"], indirect=True)
"""For attacks that never reach the database."""


def test_operations_of_any_shape_get_a_valid_response(target: TargetServer) -> None:
    generator = attack_with_generated(target, 300)

    assert generator.unused_roots() == []
    assert len(generator.unused()) < 40, generator.summary()
    assert target.outcomes["data"] >= 100


def test_query_documents_with_any_variables_get_a_valid_response(target: TargetServer) -> None:
    attack_with_documents(target, 150)

    assert target.outcomes["data"] >= 30
    assert target.outcomes["NOT_FOUND"] > 0
    assert target.outcomes["BAD_USER_INPUT"] > 0


@WITHOUT_DATABASE
def test_http_requests_of_any_shape_get_a_valid_response(target: TargetServer) -> None:
    attack_with_requests(target, 200)

    assert {"400", "405", "406", "415"} <= target.outcomes.keys()


@WITHOUT_DATABASE
def test_bytes_that_are_not_http_do_no_harm(target: TargetServer) -> None:
    attack_with_bytes(target, 80)


@WITHOUT_DATABASE
def test_messages_of_any_shape_get_a_response_or_a_close_code(target: TargetServer) -> None:
    attack_with_messages(target, 150)

    # 4409 is missing when each duplicated operation has completed before its duplicate arrives.
    assert {"4400", "4401", "4429"} <= target.outcomes.keys()


@WITHOUT_DATABASE
def test_bytes_that_are_not_websocket_frames_do_no_harm(target: TargetServer) -> None:
    attack_with_frames(target, 60)
