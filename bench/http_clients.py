"""Compares two asynchronous HTTP clients at what a node does with its peers: small and large PUTs.

    python bench/http_clients.py

Both talk to the same throw-away server on loopback, in turns, several rounds; the figures are
medians, and the ratio of the two is what counts.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import aiohttp
import httpx
import uvloop

ROUNDS: Final = 5
CONCURRENCY: Final = 16
SMALL: Final = (1024, 1600)
LARGE: Final = (8 * 1024 * 1024, 48)
PIECE: Final = 256 * 1024

Put = Callable[[str, bytes], Awaitable[int]]


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read PUT requests with Content-Length and answer each with 200."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if line)
            remaining = int(fields[b"content-length"])
            while remaining:
                remaining -= len(await reader.read(min(remaining, 1 << 18)))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
    except asyncio.IncompleteReadError:
        writer.close()


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    """Yield a large body as a node reads it from disk."""
    for offset in range(0, len(body), PIECE):
        yield body[offset : offset + PIECE]


async def rate(put: Put, url: str, size: int, count: int) -> float:
    """Return PUTs per second with CONCURRENCY of them under way."""
    body = b"x" * size
    pending = iter(range(count))

    async def worker() -> None:
        for _ in pending:
            status = await put(url, body)
            if status != 200:
                raise RuntimeError(f"the server answered {status}")

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
    return count / (time.perf_counter() - began)


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/blob"
    connector = aiohttp.TCPConnector(limit=0)
    limits = httpx.Limits(max_connections=CONCURRENCY)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        httpx.AsyncClient(limits=limits, timeout=30) as client,
    ):

        async def with_aiohttp(url: str, body: bytes) -> int:
            headers = {"Content-Length": str(len(body))}
            data = body if len(body) <= PIECE else pieces(body)
            async with session.put(url, data=data, headers=headers) as response:
                await response.read()
                return response.status

        async def with_httpx(url: str, body: bytes) -> int:
            headers = {"Content-Length": str(len(body))}
            content = body if len(body) <= PIECE else pieces(body)
            return (await client.put(url, content=content, headers=headers)).status_code

        for size, count in (SMALL, LARGE):
            rates: dict[str, list[float]] = {"aiohttp": [], "httpx": []}
            for _ in range(ROUNDS):
                rates["aiohttp"].append(await rate(with_aiohttp, url, size, count))
                rates["httpx"].append(await rate(with_httpx, url, size, count))
            medians = {name: statistics.median(values) for name, values in rates.items()}
            ratio = medians["aiohttp"] / medians["httpx"]
            print(
                f"PUT {size} bytes: aiohttp {medians['aiohttp']:.0f}/s, "
                f"httpx {medians['httpx']:.0f}/s, ratio {ratio:.2f}"
            )
    server.close()


if __name__ == "__main__":
    uvloop.run(main())
