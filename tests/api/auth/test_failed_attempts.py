"""Wrong tokens are rate-limited by client address without locking out holders of valid tokens."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from runyard.auth.authenticator import Authenticator, TooManyFailedAttempts, Unauthenticated
from runyard.auth.failed_attempts import MAX_ADDRESSES, FailedAttempts
from tests.bearer_tokens import bearer_headers, post_query, revoke
from tests.clock import START
from tests.serving import SQLITE_ONLY, RunningServer, run_server
from tests.websocket_messages import receive_close, send_connection_init

QUERY = "{ __typename }"
MAX_WRONG_TOKENS = 3


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """Run a server that verifies at most three wrong tokens per address within twenty seconds."""
    changed = {"max_wrong_tokens": MAX_WRONG_TOKENS, "wrong_tokens_seconds": 20}
    async with run_server(tmp_path, database_url=database_url, access="tokens", **changed) as running:
        yield running


def wrong_token(number: int) -> dict[str, str]:
    """Return headers with a token that does not exist."""
    return {"Authorization": f"Bearer runyard_{number:012x}_{'0' * 64}"}


async def statuses(server: RunningServer, *headers: dict[str, str]) -> list[int]:
    return [(await post_query(server.client, QUERY, each)).status_code for each in headers]


async def reach_limit(server: RunningServer) -> None:
    """Send as many wrong tokens as the limit allows."""
    assert await statuses(server, *map(wrong_token, range(MAX_WRONG_TOKENS))) == [401] * MAX_WRONG_TOKENS


async def test_a_wrong_token_over_the_limit_is_refused_with_retry_after(server: RunningServer) -> None:
    await reach_limit(server)
    server.clock.advance(7.5)

    refused = await post_query(server.client, QUERY, wrong_token(MAX_WRONG_TOKENS))

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "13")
    message = "Too many invalid tokens from this address. Retry in 13 seconds."
    extensions = {"code": "TOO_MANY_WRONG_TOKENS", "retryable": True}
    assert refused.json() == {"errors": [{"message": message, "extensions": extensions}]}


async def test_the_limit_resets_after_its_time_window(server: RunningServer) -> None:
    await reach_limit(server)

    server.clock.advance(20)

    assert await statuses(server, *map(wrong_token, range(MAX_WRONG_TOKENS + 1))) == [401] * MAX_WRONG_TOKENS + [429]


@SQLITE_ONLY
async def test_refused_tokens_cost_at_most_one_statement_per_five_seconds(server: RunningServer) -> None:
    await reach_limit(server)

    async with server.record_reads() as statements:
        refused = await statuses(server, *map(wrong_token, range(100, 120)))
        first = count_token_reads(statements)
        server.clock.advance(5)
        refused += await statuses(server, *map(wrong_token, range(200, 220)))

    assert refused == [429] * 40
    assert (first, count_token_reads(statements)) == (1, 2)


def count_token_reads(statements: list[str]) -> int:
    """Count the statements that look up tokens. Time that passes causes others."""
    return sum("api_token" in text for text in statements)


@SQLITE_ONLY
async def test_concurrent_wrong_tokens_over_the_limit_are_not_looked_up(server: RunningServer) -> None:
    authenticator: Authenticator = server.app.state.authenticator

    async with server.record_reads() as statements:
        outcomes = await asyncio.gather(
            *(authenticator.authenticate(wrong_token(number)["Authorization"], "203.0.113.1") for number in range(20)),
            return_exceptions=True,
        )

    assert [type(outcome) for outcome in outcomes] == [Unauthenticated] * MAX_WRONG_TOKENS + [TooManyFailedAttempts] * (
        20 - MAX_WRONG_TOKENS
    )
    assert len(statements) == MAX_WRONG_TOKENS + 1


async def test_valid_tokens_are_accepted_over_the_limit_whether_cached_or_not(server: RunningServer) -> None:
    cached, uncached = await bearer_headers(server, "read"), await bearer_headers(server, "read")
    await statuses(server, cached)
    await reach_limit(server)

    assert await statuses(server, wrong_token(MAX_WRONG_TOKENS), cached, uncached, wrong_token(MAX_WRONG_TOKENS)) == [
        429,
        200,
        200,
        429,
    ]


async def test_a_token_created_during_a_lockout_is_accepted_within_five_seconds(server: RunningServer) -> None:
    await reach_limit(server)
    await statuses(server, wrong_token(MAX_WRONG_TOKENS))
    made = await bearer_headers(server, "read")

    at_once = await statuses(server, made)
    server.clock.advance(5)

    assert (at_once, await statuses(server, made)) == ([429], [200])


async def test_valid_tokens_do_not_count(server: RunningServer) -> None:
    valid = [await bearer_headers(server, "read") for _ in range(MAX_WRONG_TOKENS + 1)]

    assert await statuses(server, *valid, wrong_token(0)) == [200] * (MAX_WRONG_TOKENS + 1) + [401]


async def test_concurrent_valid_tokens_are_all_accepted_without_a_warning(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    valid = [await bearer_headers(server, "read") for _ in range(3 * MAX_WRONG_TOKENS)]

    results = await asyncio.gather(*(post_query(server.client, QUERY, each) for each in valid))

    assert [result.status_code for result in results] == [200] * len(valid)
    assert [record for record in caplog.records if record.name == "runyard.auth.authenticator"] == []
    assert await statuses(server, wrong_token(0)) == [401]


async def test_exceeding_the_limit_is_logged_once(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    await reach_limit(server)
    await statuses(server, wrong_token(MAX_WRONG_TOKENS), wrong_token(MAX_WRONG_TOKENS))

    (logged,) = [record.getMessage() for record in caplog.records if record.name == "runyard.auth.authenticator"]
    message = "Received 3 invalid tokens from 127.0.0.1; only valid token ids are looked up until the window ends."
    assert logged == message


async def test_wrong_secrets_of_a_token_count_without_locking_out_its_holder(server: RunningServer) -> None:
    valid = await bearer_headers(server, "read")
    wrong_secret = {"Authorization": valid["Authorization"][:-64] + "0" * 64}

    assert await statuses(server, *[wrong_secret] * (MAX_WRONG_TOKENS + 1), valid, wrong_secret) == [
        401
    ] * MAX_WRONG_TOKENS + [429, 200, 429]


@pytest.mark.parametrize("is_revoked", [True, False])
async def test_an_expired_or_revoked_token_is_unauthenticated_and_does_not_count(
    server: RunningServer, is_revoked: bool
) -> None:
    lifetime = None if is_revoked else timedelta(seconds=1)
    once_valid = await bearer_headers(server, "read", lifetime=lifetime)
    await statuses(server, once_valid)
    if is_revoked:
        await revoke(server.services.database, once_valid)
    server.clock.advance(5)

    assert await statuses(server, *[once_valid] * (MAX_WRONG_TOKENS + 1), wrong_token(0)) == [401] * (
        MAX_WRONG_TOKENS + 2
    )


async def test_a_malformed_token_does_not_count(server: RunningServer) -> None:
    assert await statuses(server, *[{"Authorization": "Bearer x"}, {}] * MAX_WRONG_TOKENS, wrong_token(0)) == [401] * (
        2 * MAX_WRONG_TOKENS + 1
    )


async def test_a_socket_over_the_limit_is_closed_with_4403(server: RunningServer) -> None:
    valid = await bearer_headers(server, "read")
    await reach_limit(server)

    async with server.client.raw_socket() as connection:
        await send_connection_init(connection, wrong_token(MAX_WRONG_TOKENS))
        assert await receive_close(connection) == (4403, "Too many invalid tokens from this address")
    async with server.client.raw_socket() as connection:
        assert await (await send_connection_init(connection, valid)).receive() == {"type": "connection_ack"}


async def test_metrics_are_also_refused_over_the_limit(server: RunningServer) -> None:
    await reach_limit(server)

    refused = await server.client.http.get("/metrics", headers=wrong_token(MAX_WRONG_TOKENS))

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "20")


async def test_clients_behind_a_local_proxy_are_counted_separately(server: RunningServer) -> None:
    async def by_proxy(number: int, client: str) -> httpx.Response:
        return await post_query(server.client, QUERY, wrong_token(number) | {"X-Forwarded-For": client})

    first = [(await by_proxy(number, "203.0.113.1")).status_code for number in range(MAX_WRONG_TOKENS + 1)]
    second = await by_proxy(MAX_WRONG_TOKENS, "203.0.113.2")

    assert (first, second.status_code) == ([401] * MAX_WRONG_TOKENS + [429], 401)


@SQLITE_ONLY
async def test_during_a_database_outage_no_token_is_reported_as_wrong(server: RunningServer) -> None:
    await server.services.database.close()

    assert await statuses(server, *map(wrong_token, range(MAX_WRONG_TOKENS + 1))) == [503] * (MAX_WRONG_TOKENS + 1)
    # A token that could not be verified is not counted.
    counted = server.app.state.authenticator._failed_attempts.record_attempt
    assert [counted("127.0.0.1", START) for _ in range(MAX_WRONG_TOKENS)] == [None] * MAX_WRONG_TOKENS


SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("address", "other", "share_a_count"),
    [
        ("203.0.113.1", "203.0.113.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("::ffff:203.0.113.1", "::ffff:203.0.113.2", False),
        ("", "unix", False),
    ],
)
def test_ipv4_addresses_and_ipv6_networks_are_counted_separately(address: str, other: str, share_a_count: bool) -> None:
    failed_attempts = FailedAttempts(1, 60)

    counted = [failed_attempts.record_attempt(each, START) for each in (address, other)]

    assert counted == [None, 60.0 if share_a_count else None]


def test_a_clock_set_back_does_not_extend_a_lockout() -> None:
    failed_attempts = FailedAttempts(1, 60)
    failed_attempts.record_attempt("203.0.113.1", START)

    assert failed_attempts.record_attempt("203.0.113.1", START - SECOND) is None
    assert failed_attempts.record_attempt("203.0.113.1", START) == 59.0


def test_only_the_most_recent_addresses_are_remembered() -> None:
    failed_attempts = FailedAttempts(1, 60)
    addresses = [f"address {number}" for number in range(MAX_ADDRESSES + 1)]
    for address in addresses[:-1]:
        failed_attempts.record_attempt(address, START)

    kept = failed_attempts.record_attempt(addresses[0], START)
    failed_attempts.record_attempt(addresses[-1], START)

    assert kept == 60.0
    assert [failed_attempts.record_attempt(address, START) for address in (addresses[0], addresses[1])] == [60.0, None]
    assert len(failed_attempts._windows) == MAX_ADDRESSES
