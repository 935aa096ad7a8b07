# Runyard in a container. Clients need a token, which the second command creates, unless authentication is disabled.
#
#   docker build -t runyard .
#   docker run --rm -v runyard:/data runyard runyard token create --scope read --scope write --scope work
#   docker run -p 127.0.0.1:4200:4200 -v runyard:/data runyard
#
# Without tokens, for this machine only: docker run -p 127.0.0.1:4200:4200 -e RUNYARD_ACCESS=anonymous
# -e RUNYARD_ALLOWED_HOSTS=localhost,127.0.0.1 -v runyard:/data runyard

FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY runyard ./runyard
COPY schema ./schema
COPY resolvers ./resolvers
COPY db ./db
COPY queries ./queries
RUN python -m venv /opt/runyard && /opt/runyard/bin/pip install --no-cache-dir '.[otel]'

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /data --create-home runyard
COPY --from=build /opt/runyard /opt/runyard
USER 10001
WORKDIR /data
VOLUME /data
# The server listens on all addresses of the container. The published port determines who can reach it.
ENV PATH=/opt/runyard/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RUNYARD_HOST=0.0.0.0 \
    RUNYARD_DATABASE_URL=sqlite+aiosqlite:////data/runyard.db
EXPOSE 4200
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:4200/readyz', timeout=4)"]
# SIGTERM starts a graceful shutdown. The timeout must exceed RUNYARD_STOP_SECONDS (docker stop --timeout 40).
CMD ["runyard", "serve"]
