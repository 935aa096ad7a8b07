"""A server's memory is moved into huge pages where its system has them, and grows by little."""

import asyncio
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runyard.huge_pages import HUGE_PAGE_BYTES, move
from tests.client import PATIENCE
from tests.serving import ServerProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have pages of their own")

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
    """The numbers that a process of its own has said."""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return [int(each) for each in told.stdout.split()]


def test_memory_in_use_is_moved() -> None:
    before, moved, after = run(
        "from runyard.huge_pages import move\n"
        "from tests.house.test_huge_pages import kilobytes\n"
        "kept = [bytes(400) for _ in range(100_000)]\n"
        "before = kilobytes('AnonHugePages')\n"
        "moved = move()\n"
        "print(before, moved, kilobytes('AnonHugePages'))"
    )

    assert (after - before) * 1024 == moved
    assert (moved > 20 * MIB) is HAS_HUGE_PAGES


def test_memory_that_is_hardly_in_use_is_left_alone() -> None:
    before, after = run(
        "import mmap\n"
        "from runyard.huge_pages import move\n"
        "from tests.house.test_huge_pages import kilobytes\n"
        "memory = mmap.mmap(-1, 256 * 1024 * 1024, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
        "for place in range(0, len(memory), 1024 * 1024): memory[place] = 1\n"
        "before = kilobytes('Rss')\n"
        "move()\n"
        "print(before, kilobytes('Rss'))"
    )

    assert after - before < 32 * 1024


def test_where_the_system_tells_nothing_of_memory_nothing_is_moved(tmp_path: Path) -> None:
    assert move(tmp_path / "smaps") == 0
    assert move(enabled=tmp_path / "enabled") == 0


def test_where_the_operator_wants_no_huge_pages_nothing_is_moved(tmp_path: Path) -> None:
    enabled = tmp_path / "enabled"
    enabled.write_text("always madvise [never]\n")

    assert move(enabled=enabled) == 0


def test_a_file_in_memory_may_have_any_name(tmp_path: Path) -> None:
    smaps = tmp_path / "smaps"
    smaps.write_bytes(b"10000-20000 r--p 00000000 fe:00 4 /tmp/\xff\nSize: 64 kB\nRss: 64 kB\n")

    assert move(smaps) == 0


async def test_a_server_has_moved_what_it_has_soon_after_its_start(server_process: ServerProcess) -> None:
    client = await server_process.start()
    assert server_process.process is not None
    pid, least = server_process.process.pid, 8 * HUGE_PAGE_BYTES // 1024 if HAS_HUGE_PAGES else 0

    async with asyncio.timeout(PATIENCE):
        while kilobytes("AnonHugePages", pid) < least:
            assert (await client.http.get("/healthz")).status_code == 200
