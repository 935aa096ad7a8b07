"""Help for tests of code that uses `runyard_client`: a real server, inline mode and single runs.

`RunyardServer` starts a server process on a temporary database. `Inline` records calls and executes them in the test's
process, without a server. `run_task` calls one task with a run context. The pytest fixtures `runyard_server` and
`runyard_inline` provide the first two; they are registered when the distribution is installed.
"""

from runyard_client.testing.inline import Inline as Inline
from runyard_client.testing.inline_connection import NotImitated as NotImitated
from runyard_client.testing.inline_run import InlineRun as InlineRun
from runyard_client.testing.run_task import make_run as make_run
from runyard_client.testing.run_task import run_task as run_task
from runyard_client.testing.server import ExternalServer as ExternalServer
from runyard_client.testing.server import RunyardServer as RunyardServer
from runyard_client.testing.server import ServerNotStarted as ServerNotStarted
from runyard_client.testing.server import start_server as start_server
