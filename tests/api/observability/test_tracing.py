"""Tracing: a run stores the trace of the request that created it, and the environment configures the export of spans."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from queries import document
from tests.client import TIMEOUT_SECONDS, Client
from tests.serving import SQLITE_ONLY, ServerProcess

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


async def create(client: Client, traceparent: str | None, task_key: str = "t") -> str:
    run = {"taskKey": task_key, "state": {"type": "SCHEDULED"}}
    body = {"query": document("CreateTaskRun")[0], "variables": {"input": run}}
    headers = {} if traceparent is None else {"traceparent": traceparent}
    response = await client.http.post("/graphql", json=body, headers=headers)
    return response.json()["data"]["createTaskRun"]["taskRun"]["id"]


async def trace_parent_of(client: Client, id: str) -> str | None:
    return (await client.execute("GetTaskRun", id=id))["traceParent"]


async def test_a_run_passes_the_trace_of_its_creation_to_its_worker(client: Client) -> None:
    id = await create(client, PARENT)

    async with client.socket() as socket:
        await socket.subscribe("ScheduledTaskRuns", taskKeys=["t"])
        (delivery,) = await socket.deliveries(1)

    assert delivery["taskRun"]["id"] == id
    assert delivery["taskRun"]["traceParent"] == PARENT
    assert await trace_parent_of(client, id) == PARENT


async def test_a_trace_does_not_leak_into_other_requests(client: Client) -> None:
    await create(client, PARENT)
    after = await create(client, None)

    assert await trace_parent_of(client, after) is None


@SQLITE_ONLY
@pytest.mark.parametrize(
    "header",
    ["", "nonsense", f"00-{TRACE}-{SPAN}", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", PARENT.upper()],
)
async def test_an_invalid_traceparent_header_is_ignored(client: Client, header: str) -> None:
    id = await create(client, header)

    assert await trace_parent_of(client, id) is None


class Collector:
    """Receives spans as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    import gzip  # noqa: PLC0415

                    sent = gzip.decompress(sent)
                for resource in ExportTraceServiceRequest.FromString(sent).resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans.extend(scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Suppress the request log."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever)
    thread.start()
    yield collector
    collector.server.shutdown()
    thread.join()
    collector.server.server_close()


async def test_request_operation_and_transaction_are_spans_of_the_client_trace(
    server_process: ServerProcess, collector: Collector
) -> None:
    server_process._environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
    client = await server_process.start()

    id = await create(client, PARENT)
    stored = await trace_parent_of(client, id)
    await server_process.terminate()

    spans = {span.name: span for span in collector.spans if span.trace_id.hex() == TRACE}
    assert sorted(spans) == ["GraphQL mutation", "POST /graphql", "write create_task_runs"]
    request, operation, write = (
        spans[name] for name in ("POST /graphql", "GraphQL mutation", "write create_task_runs")
    )
    assert request.parent_span_id.hex() == SPAN
    assert operation.parent_span_id == request.span_id
    assert write.parent_span_id == operation.span_id
    attributes = {each.key: each.value.string_value for each in operation.attributes}
    assert attributes["graphql.operation.name"] == "CreateTaskRun"
    assert stored == f"00-{TRACE}-{operation.span_id.hex()}-01"


@SQLITE_ONLY
async def test_a_socket_operation_starts_its_own_trace(server_process: ServerProcess, collector: Collector) -> None:
    server_process._environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
    client = await server_process.start()

    async with client.socket() as socket:
        await socket.subscribe("CreateTaskRun", input={"taskKey": "t"})
        id = (await socket.event())["taskRun"]["id"]
        stored = await trace_parent_of(client, id)
    await server_process.terminate()

    (operation,) = [span for span in collector.spans if span.name == "GraphQL mutation"]
    assert operation.parent_span_id == b""
    assert stored is not None
    assert stored.rpartition("-")[0] == f"00-{operation.trace_id.hex()}-{operation.span_id.hex()}"


async def build_in_new_process(tmp_path: Path, *, before: str = "", **variables: str) -> tuple[list[str], str]:
    """Build the application in a new process; return the optional packages that it loads, and its log."""
    program = (
        f"import sys; {before}\n"
        "from runyard.app import build_app; from runyard.settings import Settings; build_app(Settings())\n"
        "print(*(name for name in ('opentelemetry', 'prometheus_client') if sys.modules.get(name)))"
    )
    environment = {"RUNYARD_DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/runyard.db", **variables}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env=environment, stdout=pipe, stderr=pipe
    )
    output, logged = await asyncio.wait_for(process.communicate(), 2 * TIMEOUT_SECONDS)
    assert process.returncode == 0, logged
    return output.decode().split(), logged.decode()


EXPORTER = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


async def test_optional_packages_are_loaded_only_when_configured(tmp_path: Path) -> None:
    assert await build_in_new_process(tmp_path) == ([], "")
    assert await build_in_new_process(tmp_path, **EXPORTER, OTEL_SDK_DISABLED="true") == ([], "")
    assert await build_in_new_process(tmp_path, **EXPORTER) == (["opentelemetry"], "")


async def test_a_missing_tracing_package_is_logged_when_tracing_is_configured(tmp_path: Path) -> None:
    hide = "sys.modules['opentelemetry'] = None"

    loaded, logged = await build_in_new_process(tmp_path, before=hide, **EXPORTER)

    assert loaded == []
    assert (
        logged == "Tracing is disabled: opentelemetry is not installed. Install it with: pip install 'runyard[otel]'\n"
    )
