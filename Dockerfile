# One image for all of it: which service a container is, its command says. No compiler, no root, nothing is written.

FROM python:3.13.9-slim-bookworm AS build
WORKDIR /source
COPY . .
# The wheel, and those of all that it needs.
RUN pip wheel --no-cache-dir --disable-pip-version-check --wheel-dir /wheels .

FROM python:3.13.9-slim-bookworm
RUN groupadd --gid 10001 app && useradd --uid 10001 --gid app --no-create-home --shell /usr/sbin/nologin app
# --no-deps: they are all there, and one that the build took from a file is not looked for at its old path.
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --disable-pip-version-check --no-index --no-deps /wheels/*.whl
ENV PYTHONUNBUFFERED=1
WORKDIR /tmp
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
# Of a coordinator. A participant has no address: see --health-file.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["sagabus", "health"]
CMD ["sagabus", "--help"]
