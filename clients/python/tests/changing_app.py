"""One task in two versions of its code, as during a deployment. CHANGING_VERSION selects the version."""

import os
from typing import Any

from runyard_client import Runyard

runyard = Runyard()
key = "change" + os.environ.get("WORKER_TEST_KEY", "")

if os.environ.get("CHANGING_VERSION") == "2":

    @runyard.task(key=key)
    async def change(a: int, added: int = 2) -> Any:
        return {"version": 2, "a": a, "added": added}

else:

    @runyard.task(key=key)
    async def change(a: int, removed: int = 1) -> Any:  # type: ignore[no-redef]
        return {"version": 1, "a": a, "removed": removed}
