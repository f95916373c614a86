# The product's own images. `--target tune`: the tuner and its dashboard. `--target load`: only the load test, which runs as a
# Job beside a server, so that a cluster's nodes need not pull the tuner's.
# `wheels/` (what it depends on) and `app/` (itself) hold all that is installed; images/build fills them.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
ARG IMAGE=tune
COPY wheels /wheels
RUN python3 -m venv /opt/tune && /opt/tune/bin/pip install --no-cache-dir --no-compile --no-index --no-deps /wheels/*.whl
COPY app /app
COPY prune.py /
RUN /opt/tune/bin/pip install --no-cache-dir --no-compile --no-index --no-deps /app/*.whl \
  && python3 /prune.py "$IMAGE" /opt/tune

FROM ${BASE} AS load
COPY --from=build /opt/tune /opt/tune
ENV PATH=/opt/tune/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /work
ENTRYPOINT ["python", "-P", "-m", "loadtest"]

FROM ${BASE} AS tune
COPY --from=build /opt/tune /opt/tune
ENV PATH=/opt/tune/bin:$PATH PYTHONDONTWRITEBYTECODE=1 XDG_STATE_HOME=/tmp
USER 10001:10001
WORKDIR /work
ENTRYPOINT ["tune"]
