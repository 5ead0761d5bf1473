"""The guard in a user's own table: what its transactions write is written in the order of the tokens, or not at all."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from diurna import StaleToken, TableFenceGuard
from support.stack import eventually

pytestmark = pytest.mark.stack
GUARD = TableFenceGuard()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(database_url, min_size=4, max_size=8) as found:
        await found.execute("drop table if exists fence_tokens, releases")
        await found.execute("create table releases (number serial, token bigint)")
        await GUARD.create(found)
        await GUARD.create(found)
        yield found


async def release(
    pool: asyncpg.Pool, token: int, pause: float = 0, between: Callable[[], Awaitable[None]] | None = None
) -> None:
    """What a holder does: its check and its work in one transaction, and something `between` them."""
    async with pool.acquire() as connection, connection.transaction():
        await GUARD.check(connection, "repo:x", token)
        await asyncio.sleep(pause)
        if between is not None:
            await between()
        await connection.execute("insert into releases (token) values ($1)", token)


async def written(pool: asyncpg.Pool) -> list[int]:
    return [row["token"] for row in await pool.fetch("select token from releases order by number")]


async def test_a_stale_token_s_transaction_writes_nothing(pool: asyncpg.Pool) -> None:
    for token in (5, 5, 9):
        await release(pool, token)
    with pytest.raises(StaleToken, match="fencing token 8"):
        await release(pool, 8)
    assert await written(pool) == [5, 5, 9]
    assert await pool.fetchval("select token from fence_tokens") == 9


async def test_a_later_holder_waits_for_the_transaction_of_an_earlier_one(pool: asyncpg.Pool) -> None:
    async def waits() -> bool:
        here = "datname = current_database() and wait_event_type = 'Lock'"  # others work on this server too
        return bool(await pool.fetchval(f"select count(*) from pg_stat_activity where {here}"))

    later: list[asyncio.Task[None]] = []

    async def another_comes() -> None:
        later.append(asyncio.create_task(release(pool, 2)))
        await eventually(waits)

    await release(pool, 1, between=another_comes)
    await asyncio.gather(*later)
    assert await written(pool) == [1, 2]


async def test_a_transaction_that_fails_leaves_no_token_behind(pool: asyncpg.Pool) -> None:
    async def fails() -> None:
        async with pool.acquire() as connection, connection.transaction():
            await GUARD.check(connection, "repo:x", 100)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    await release(pool, 1)
    assert await written(pool) == [1]


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_the_order_of_arrival_the_order_of_writing_is_that_of_the_tokens(
    pool: asyncpg.Pool, seed: int
) -> None:
    chance = random.Random(seed)
    tokens = list(range(40))
    chance.shuffle(tokens)
    pauses = {token: chance.random() * 0.01 for token in tokens}
    found = await asyncio.gather(*(release(pool, token, pauses[token]) for token in tokens), return_exceptions=True)
    assert {type(one) for one in found} <= {type(None), StaleToken}
    wrote = await written(pool)
    assert wrote == sorted(wrote)
    assert len(wrote) == found.count(None)
    assert wrote[-1] == 39
