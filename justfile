# Commands for development. `just` lists them. CI runs `just check`.

bin := parent_directory(just_executable())
# Processes that run the tests: more than cores, because tests also wait for servers.
workers := "3"

_list:
    @{{ just_executable() }} --list --unsorted

# Start a server with a database in this folder.
serve *options:
    RUNYARD_DATABASE_URL=sqlite+aiosqlite:///runyard.db {{ bin }}/runyard serve {{ options }}

# Run everything that CI runs.
check: format-check lint types imports graphiql-check test test-client

# Format the code and fix lint errors.
format:
    {{ bin }}/ruff format
    {{ bin }}/ruff check --fix

format-check:
    {{ bin }}/ruff format --check

lint:
    {{ bin }}/ruff check

# Check types: of the server with basedpyright, of the Python client with basedpyright and mypy.
types:
    {{ bin }}/basedpyright --pythonpath {{ bin }}/python
    cd clients/python && {{ bin }}/basedpyright --pythonpath {{ bin }}/python
    cd clients/python && {{ bin }}/mypy

# Check the import contracts between layers and rooms.
imports:
    {{ bin }}/lint-imports

# Print the GraphQL schema to schema/schema.graphql.
sdl:
    {{ bin }}/runyard schema print > schema/schema.graphql

# Release the schema: later changes must be compatible with it. Run with each release only.
release-contract: sdl
    cp schema/schema.graphql schema/released.graphql

# Run the tests, including those of the printed schema and the documents.
test *options:
    {{ bin }}/pytest -n {{ workers }} --dist worksteal {{ options }}

# Run the tests of the Python client.
test-client *options:
    cd clients/python && {{ bin }}/pytest -n {{ workers }} --dist loadfile {{ options }}

# Run the tests that start no other process, for the inner loop: orchestration, filters and house rules.
test-fast *options:
    {{ bin }}/pytest -n {{ workers }} --dist worksteal -q -m "not processes" --hypothesis-profile fast \
        tests/orchestration tests/filtering tests/house {{ options }}

# Execute runs for 10 minutes while servers, workers, clocks and the database fail, and report violated guarantees.
chaos *options:
    {{ bin }}/python -m tests.chaos {{ options }}

# Execute runs with the Python client while servers, workers and child processes fail. `--help` lists the options.
chaos-client *options:
    cd clients/python/tests && {{ bin }}/python -m chaos {{ options }}

# Send invalid and hostile requests to a server, and check the responses. `--help` lists the options.
hostile *options:
    {{ bin }}/python -m tests.hostile {{ options }}

# Build the files of GraphiQL from their sources. Requires npm.
graphiql-build:
    cd runyard/graphiql/web && npm ci --silent && npm run -s build

# Check that the files of GraphiQL match their sources. Skipped with a message without npm and Node 20.
graphiql-check:
    @if command -v npm > /dev/null && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; \
    then cd runyard/graphiql/web && npm ci --silent && npm run -s check; \
    else echo "skipped: npm with Node 20 is not installed"; fi

# Measure the CPU time of each operation, relative to the bare database driver. `--help` lists the options.
bench *options:
    {{ bin }}/python -m benchmarks {{ options }}

# Measure the Python client, beside Celery and Procrastinate. `--help` lists the options.
bench-client *options:
    cd clients/python && {{ bin }}/python -m benchmarks {{ options }}

# Time the README, from an empty clone to the result of the first task.
bench-first-worker *options:
    cd clients/python && {{ bin }}/python -m benchmarks.first_worker {{ options }}

# Compare two reports of `just bench --json FILE`.
bench-compare old new:
    {{ bin }}/python -m benchmarks.report {{ old }} {{ new }}

# Measure what requests that wait cost two servers on PostgreSQL.
bench-waits *options:
    {{ bin }}/python -m benchmarks.waits {{ options }}

# Put a mixed load on a server, and report whether its memory, files and tasks grow.
soak *options:
    {{ bin }}/python -m benchmarks.soak {{ options }}
