# Relay as a container: docs/container.md says how to build, run and upgrade it. Where no engine is at
# hand, scripts/container_steps.py runs these steps in a folder; it knows the instructions used here.

# First stage: makes /opt/relay, which is all that the second one takes from it.
FROM python:3.11.15-slim-trixie AS build

WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY constraints.txt ./
RUN pip install --constraint constraints.txt hatchling
COPY pyproject.toml README.md LICENSE ./
COPY relay_middleware relay_middleware
COPY proxy_app proxy_app
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .
# Without pip: what is installed from outside is all that there is.
RUN python -m venv --without-pip /opt/relay
RUN pip --python /opt/relay/bin/python install --constraint constraints.txt /wheels/*.whl

# Second stage: Python, Relay and its dependencies.
FROM python:3.11.15-slim-trixie

RUN pip uninstall --yes --root-user-action ignore pip setuptools wheel
RUN groupadd --gid 10001 relay && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/relay --shell /usr/sbin/nologin relay
# An empty volume that is mounted here takes over the owner.
RUN install --directory --owner=10001 --group=10001 --mode=0750 /var/lib/relay
COPY --from=build /opt/relay /opt/relay

# The configuration is mounted; what it says of the state is overridden. Variables RELAY_... win.
ENV PATH=/opt/relay/bin:$PATH PYTHONUNBUFFERED=1 HOME=/var/lib/relay RELAY_CONFIG=/etc/relay/relay.yaml RELAY_STATE_DIR=/var/lib/relay
WORKDIR /var/lib/relay
USER 10001:10001
EXPOSE 8000

# Alive, not ready: a store that is down is no reason to kill the process. Importing LiteLLM takes
# seconds, on a busy machine many.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "import http.client, os, sys; relay = http.client.HTTPConnection('127.0.0.1', os.environ.get('PORT', '8000'), timeout=4); relay.request('GET', '/healthz'); sys.exit(relay.getresponse().status != 200)"]

ENTRYPOINT ["relay"]
CMD ["serve", "--host", "0.0.0.0"]
