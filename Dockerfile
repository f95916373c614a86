# The product's own image: the tuner, its dashboard, and the load test that runs as a Job beside a server.
# `wheels/` (what it depends on) and `app/` (itself) hold all that is installed; images/build fills them.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
COPY wheels /wheels
RUN python3 -m venv /opt/tune && /opt/tune/bin/pip install --no-cache-dir --no-index --no-deps /wheels/*.whl
COPY app /app
RUN /opt/tune/bin/pip install --no-cache-dir --no-index --no-deps /app/*.whl

FROM ${BASE}
COPY --from=build /opt/tune /opt/tune
ENV PATH=/opt/tune/bin:$PATH PYTHONDONTWRITEBYTECODE=1 XDG_STATE_HOME=/tmp
USER 10001:10001
WORKDIR /work
ENTRYPOINT ["tune"]
