# The commands of this project. `just` lists them; `just check` is all that CI does.

bin := parent_directory(just_executable())
# Processes that share the tests; on two cores three, since servers under test also wait.
workers := "3"

_list:
    @{{ just_executable() }} --list --unsorted

# Start the server on a database in this folder.
serve *options:
    RUNYARD_DATABASE_URL=sqlite+aiosqlite:///runyard.db {{ bin }}/runyard serve {{ options }}

# Everything that CI checks.
check: format-check lint types imports graphiql-check test

# Put the code into its form.
format:
    {{ bin }}/ruff format
    {{ bin }}/ruff check --fix

format-check:
    {{ bin }}/ruff format --check

lint:
    {{ bin }}/ruff check

# Strict types.
types:
    {{ bin }}/basedpyright --pythonpath {{ bin }}/python

# Imports point down the stairs.
imports:
    {{ bin }}/lint-imports

# Write the printed contract anew.
sdl:
    {{ bin }}/runyard schema print > schema/schema.graphql

# Let today's contract be the one that later ones are held to: with each release, and never in between.
release-contract: sdl
    cp schema/schema.graphql schema/released.graphql

# The tests; they hold the printed contract and the documents to the code, too.
test *options:
    {{ bin }}/pytest -n {{ workers }} --dist worksteal {{ options }}

# Let servers, workers and the database fail while runs are carried out, and tell whether a promise was broken.
chaos *options:
    {{ bin }}/python -m tests.chaos {{ options }}

# Send a server what no client should, and tell whether it was answered as the contract says. `--help` tells the options.
hostile *options:
    {{ bin }}/python -m tests.hostile {{ options }}

# Build GraphiQL's files from their sources. Needs npm.
graphiql-build:
    cd runyard/graphiql/web && npm ci --silent && npm run -s build

# Whether GraphiQL's files are what their sources build. Skipped, and said so, without npm and Node 20.
graphiql-check:
    @if command -v npm > /dev/null && node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; \
    then cd runyard/graphiql/web && npm ci --silent && npm run -s check; \
    else echo "skipped: npm with Node 20 is not on this machine"; fi

# What each operation costs beside the bare driver, in CPU of the server. `--help` tells the options.
bench *options:
    {{ bin }}/python -m benchmarks {{ options }}

# Compare two reports of `just bench --json FILE`.
bench-compare old new:
    {{ bin }}/python -m benchmarks.report {{ old }} {{ new }}

# Put a mixed load on a server for a while, and show whether its memory, files and tasks stay as they are.
soak *options:
    {{ bin }}/python -m benchmarks.soak {{ options }}
