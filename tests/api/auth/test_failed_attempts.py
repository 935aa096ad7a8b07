"""Who shows one wrong token after the other is not looked up any more, and locks nobody out who shows a right one."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from runyard.auth.authenticator import Access, TooManyWrongTokens, Unauthenticated
from runyard.auth.failed_attempts import MOST_ADDRESSES, WrongTokens
from tests.api.auth.test_authentication import ask, bearer, closing_of, introduced, revoke
from tests.clock import START
from tests.serving import ON_SQLITE, Serving, serving

QUERY = "{ __typename }"
MOST = 3


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[Serving]:
    """A server that looks at three wrong tokens of an address within twenty seconds."""
    changed = {"max_wrong_tokens": MOST, "wrong_tokens_seconds": 20}
    async with serving(tmp_path, database_url=database_url, access="tokens", **changed) as served:
        yield served


def wrong(number: int) -> dict[str, str]:
    """A token that nobody has made."""
    return {"Authorization": f"Bearer runyard_{number:012x}_{'0' * 64}"}


async def statuses(server: Serving, *headers: dict[str, str]) -> list[int]:
    return [(await ask(server.client, QUERY, each)).status_code for each in headers]


async def use_up(server: Serving) -> None:
    """Show as many wrong tokens as are looked at."""
    assert await statuses(server, *map(wrong, range(MOST))) == [401] * MOST


async def test_one_too_many_is_refused_and_told_when_to_come_again(server: Serving) -> None:
    await use_up(server)
    server.clock.advance(7.5)

    refused = await ask(server.client, QUERY, wrong(MOST))

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "13")
    message = "Too many wrong tokens have come from this address; try again in 13 seconds."
    extensions = {"code": "TOO_MANY_WRONG_TOKENS", "retryable": True}
    assert refused.json() == {"errors": [{"message": message, "extensions": extensions}]}


async def test_when_the_time_is_up_as_many_are_looked_at_again(server: Serving) -> None:
    await use_up(server)

    server.clock.advance(20)

    assert await statuses(server, *map(wrong, range(MOST + 1))) == [401] * MOST + [429]


@ON_SQLITE
async def test_however_many_are_refused_they_cost_one_statement_in_five_seconds(server: Serving) -> None:
    await use_up(server)

    async with server.counting() as statements:
        refused = await statuses(server, *map(wrong, range(100, 120)))
        first = len(statements)
        server.clock.advance(5)
        refused += await statuses(server, *map(wrong, range(200, 220)))

    assert refused == [429] * 40
    assert (first, len(statements)) == (1, 2)


@ON_SQLITE
async def test_those_that_come_at_once_are_not_all_looked_up(server: Serving) -> None:
    access: Access = server.app.state.access

    async with server.counting() as statements:
        outcomes = await asyncio.gather(
            *(access.caller(wrong(number)["Authorization"], "203.0.113.1") for number in range(20)),
            return_exceptions=True,
        )

    assert [type(outcome) for outcome in outcomes] == [Unauthenticated] * MOST + [TooManyWrongTokens] * (20 - MOST)
    assert len(statements) == MOST + 1


async def test_right_ones_are_let_in_whether_they_were_seen_before_or_not(server: Serving) -> None:
    seen, unseen = await bearer(server, "read"), await bearer(server, "read")
    await statuses(server, seen)
    await use_up(server)

    assert await statuses(server, wrong(MOST), seen, unseen, wrong(MOST)) == [429, 200, 200, 429]


async def test_one_that_is_made_meanwhile_is_let_in_within_five_seconds(server: Serving) -> None:
    await use_up(server)
    await statuses(server, wrong(MOST))
    made = await bearer(server, "read")

    at_once = await statuses(server, made)
    server.clock.advance(5)

    assert (at_once, await statuses(server, made)) == ([429], [200])


async def test_right_ones_do_not_count(server: Serving) -> None:
    right = [await bearer(server, "read") for _ in range(MOST + 1)]

    assert await statuses(server, *right, wrong(0)) == [200] * (MOST + 1) + [401]


async def test_right_ones_that_come_at_once_are_all_let_in_and_nobody_is_warned(
    server: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    right = [await bearer(server, "read") for _ in range(3 * MOST)]

    answers = await asyncio.gather(*(ask(server.client, QUERY, each) for each in right))

    assert [answer.status_code for answer in answers] == [200] * len(right)
    assert [record for record in caplog.records if record.name == "runyard.auth.authenticator"] == []
    assert await statuses(server, wrong(0)) == [401]


async def test_an_operator_is_told_once(server: Serving, caplog: pytest.LogCaptureFixture) -> None:
    await use_up(server)
    await statuses(server, wrong(MOST), wrong(MOST))

    (told,) = [record.getMessage() for record in caplog.records if record.name == "runyard.auth.authenticator"]
    assert told == "3 wrong tokens have come from 127.0.0.1; for a while, no more are looked up."


async def test_wrong_secrets_of_a_token_count_and_do_not_harm_its_holder(server: Serving) -> None:
    right = await bearer(server, "read")
    guess = {"Authorization": right["Authorization"][:-64] + "0" * 64}

    assert await statuses(server, *[guess] * (MOST + 1), right, guess) == [401] * MOST + [429, 200, 429]


@pytest.mark.parametrize("is_revoked", [True, False])
async def test_one_that_was_right_is_told_that_it_is_valid_no_more(server: Serving, is_revoked: bool) -> None:
    lifetime = None if is_revoked else timedelta(seconds=1)
    was_right = await bearer(server, "read", lifetime=lifetime)
    await statuses(server, was_right)
    if is_revoked:
        await revoke(server.life.database, was_right)
    server.clock.advance(5)

    assert await statuses(server, *[was_right] * (MOST + 1), wrong(0)) == [401] * (MOST + 2)


async def test_what_is_no_token_by_its_form_does_not_count(server: Serving) -> None:
    assert await statuses(server, *[{"Authorization": "Bearer x"}, {}] * MOST, wrong(0)) == [401] * (2 * MOST + 1)


async def test_sockets_are_closed_with_4403(server: Serving) -> None:
    right = await bearer(server, "read")
    await use_up(server)

    async with server.client.raw_socket() as connection:
        await introduced(connection, wrong(MOST))
        assert await closing_of(connection) == (4403, "Too many wrong tokens from this address")
    async with server.client.raw_socket() as connection:
        assert await (await introduced(connection, right)).receive() == {"type": "connection_ack"}


async def test_metrics_are_refused_alike(server: Serving) -> None:
    await use_up(server)

    refused = await server.client.http.get("/metrics", headers=wrong(MOST))

    assert (refused.status_code, refused.headers["retry-after"]) == (429, "20")


async def test_a_proxy_on_this_machine_tells_its_clients_apart(server: Serving) -> None:
    async def by_proxy(number: int, client: str) -> httpx.Response:
        return await ask(server.client, QUERY, wrong(number) | {"X-Forwarded-For": client})

    first = [(await by_proxy(number, "203.0.113.1")).status_code for number in range(MOST + 1)]
    second = await by_proxy(MOST, "203.0.113.2")

    assert (first, second.status_code) == ([401] * MOST + [429], 401)


@ON_SQLITE
async def test_while_the_database_is_away_nobody_is_told_that_a_token_is_wrong(server: Serving) -> None:
    await server.life.database.close()

    assert await statuses(server, *map(wrong, range(MOST + 1))) == [503] * (MOST + 1)
    # Nor has any been counted.
    counted = server.app.state.access._wrong_tokens.count
    assert [counted("127.0.0.1", START) for _ in range(MOST)] == [None] * MOST


# --- the count ---

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("address", "neighbour", "are_one"),
    [
        ("203.0.113.1", "203.0.113.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("::ffff:203.0.113.1", "::ffff:203.0.113.2", False),
        ("", "unix", False),
    ],
)
def test_addresses_count_apart_and_of_ipv6_networks(address: str, neighbour: str, are_one: bool) -> None:
    wrong_tokens = WrongTokens(1, 60)

    counted = [wrong_tokens.count(each, START) for each in (address, neighbour)]

    assert counted == [None, 60.0 if are_one else None]


def test_a_clock_that_is_set_back_locks_nobody_out_for_longer() -> None:
    wrong_tokens = WrongTokens(1, 60)
    wrong_tokens.count("203.0.113.1", START)

    assert wrong_tokens.count("203.0.113.1", START - SECOND) is None
    assert wrong_tokens.count("203.0.113.1", START) == 59.0


def test_the_addresses_that_were_seen_last_are_remembered() -> None:
    wrong_tokens = WrongTokens(1, 60)
    addresses = [f"address {number}" for number in range(MOST_ADDRESSES + 1)]
    for address in addresses[:-1]:
        wrong_tokens.count(address, START)

    kept = wrong_tokens.count(addresses[0], START)
    wrong_tokens.count(addresses[-1], START)

    assert kept == 60.0
    assert [wrong_tokens.count(address, START) for address in (addresses[0], addresses[1])] == [60.0, None]
    assert len(wrong_tokens._windows) == MOST_ADDRESSES
