# The gateway server. Builds with BuildKit and with Docker's classic builder:
#
#   docker build --tag qgateway .
#
# The image runs `gateway serve` as user 10001, keeps its store in /data, and needs nothing else to be writable but /tmp:
#
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges --volume qgateway:/data \
#     --publish 127.0.0.1:50051:50051 --env-file gateway.env qgateway

# Any image with CPython 3.11 or newer at the same place as the official ones.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python3 -m venv --without-pip /opt/qgateway

# The dependencies first, with empty packages in place of ours: a change of our code leaves this layer in the cache.
COPY pyproject.toml README.md constraints.txt ./
COPY clients/python/pyproject.toml clients/python/README.md clients/python/
RUN mkdir -p clients/python/src \
 && python3 -m pip --python /opt/qgateway/bin/python3 install --no-compile -c constraints.txt ./clients/python .

COPY clients/python/src clients/python/src
COPY gateway gateway
RUN python3 -m pip --python /opt/qgateway/bin/python3 install --no-compile --no-deps --force-reinstall ./clients/python . \
 && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/qgateway/lib

FROM ${BASE}
RUN groupadd --gid 10001 gateway \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin gateway \
 && install -d -o 10001 -g 10001 -m 0700 /data
COPY --from=build /opt/qgateway /opt/qgateway
ENV PATH=/opt/qgateway/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Reachable from outside, so it wants TLS (GATEWAY_SERVER__TLS__CERTIFICATE and __KEY), or GATEWAY_SERVER__ALLOW_INSECURE=true.
ENV GATEWAY_SERVER__LISTEN=0.0.0.0:50051 GATEWAY_STORE__PATH=/data/qgateway.db
# The health check below asks here, whether the server speaks TLS or not.
ENV GATEWAY_SERVER__HEALTH_LISTEN=127.0.0.1:50052 GATEWAY_HEALTH_TARGET=127.0.0.1:50052
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 50051
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["gateway", "health"]
ENTRYPOINT ["gateway"]
CMD ["serve"]
