"""Huge pages: a server moves its memory into huge pages where available, using little extra memory."""

import asyncio
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runyard.huge_pages import HUGE_PAGE_BYTES, collapse_memory
from tests.client import TIMEOUT_SECONDS
from tests.serving import ServerProcess

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has transparent huge pages"),
]

HAS_HUGE_PAGES = (
    tuple(map(int, re.findall(r"\d+", platform.release())[:2])) >= (6, 1)
    and Path("/sys/kernel/mm/transparent_hugepage").exists()
)
MIB = 1024 * 1024


def kilobytes(kind: str, process: int | str = "self") -> int:
    found = re.search(rf"^{kind}: +(\d+) kB$", Path(f"/proc/{process}/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def run(script: str) -> list[int]:
    """Run the script in another process and return the numbers it prints."""
    completed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return [int(each) for each in completed.stdout.split()]


def test_used_memory_is_moved_into_huge_pages() -> None:
    before, moved, after = run(
        "from runyard.huge_pages import collapse_memory\n"
        "from tests.house.test_huge_pages import kilobytes\n"
        "used = [bytes(400) for _ in range(100_000)]\n"
        "before = kilobytes('AnonHugePages')\n"
        "moved = collapse_memory()\n"
        "print(before, moved, kilobytes('AnonHugePages'))"
    )

    assert (after - before) * 1024 == moved
    assert (moved > 20 * MIB) is HAS_HUGE_PAGES


def test_sparsely_used_memory_is_not_moved() -> None:
    before, after = run(
        "import mmap\n"
        "from runyard.huge_pages import collapse_memory\n"
        "from tests.house.test_huge_pages import kilobytes\n"
        "memory = mmap.mmap(-1, 256 * 1024 * 1024, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
        "for offset in range(0, len(memory), 1024 * 1024): memory[offset] = 1\n"
        "before = kilobytes('Rss')\n"
        "collapse_memory()\n"
        "print(before, kilobytes('Rss'))"
    )

    assert after - before < 32 * 1024


def test_nothing_is_moved_without_memory_statistics(tmp_path: Path) -> None:
    assert collapse_memory(tmp_path / "smaps") == 0
    assert collapse_memory(enabled=tmp_path / "enabled") == 0


def test_nothing_is_moved_when_huge_pages_are_disabled(tmp_path: Path) -> None:
    enabled = tmp_path / "enabled"
    enabled.write_text("always madvise [never]\n")

    assert collapse_memory(enabled=enabled) == 0


def test_a_mapped_file_may_have_any_name(tmp_path: Path) -> None:
    smaps = tmp_path / "smaps"
    smaps.write_bytes(b"10000-20000 r--p 00000000 fe:00 4 /tmp/\xff\nSize: 64 kB\nRss: 64 kB\n")

    assert collapse_memory(smaps) == 0


async def test_a_server_moves_its_memory_after_starting(server_process: ServerProcess) -> None:
    client = await server_process.start()
    assert server_process.process is not None
    pid, least = server_process.process.pid, 8 * HUGE_PAGE_BYTES // 1024 if HAS_HUGE_PAGES else 0

    async with asyncio.timeout(TIMEOUT_SECONDS):
        while kilobytes("AnonHugePages", pid) < least:
            assert (await client.http.get("/healthz")).status_code == 200
