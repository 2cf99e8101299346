# Build: docker build -t relay .
# Run:   docker run -p 587:587 -p 8025:8025 -v relay:/var/lib/relay -e RELAY_HOSTNAME=mail.example.com relay
# Keys:  docker exec CONTAINER relay key create
# Apps reach it from the gateway of Docker's network, not from loopback: give it a certificate (RELAY_SMTP__TLS_CERT, RELAY_SMTP__TLS_KEY), or, on a machine
# of your own, let that network AUTH without TLS: -p 127.0.0.1:587:587 -e RELAY_SMTP__PLAINTEXT_AUTH=172.16.0.0/12

FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /opt/relay
COPY constraints.txt ./
COPY pyproject.toml README.md LICENSE ./
COPY config ./config
COPY policies ./policies
COPY relay ./relay
RUN /opt/relay/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt .

FROM python:3.11-slim
LABEL org.opencontainers.image.title="Relay" org.opencontainers.image.licenses="Apache-2.0"
# A fixed number, so that a volume keeps its owner across images.
RUN useradd --system --uid 10025 --home-dir /var/lib/relay --shell /usr/sbin/nologin relay \
    && install --directory --owner=relay --group=relay --mode=0711 /var/lib/relay
COPY --from=build /opt/relay /opt/relay
COPY config/relay.toml /etc/relay/relay.toml
# Inside a container loopback is the container's own: the listeners are open to what the operator publishes.
ENV PATH=/opt/relay/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    RELAY_CONFIG=/etc/relay/relay.toml \
    RELAY_DATA_DIR=/var/lib/relay \
    RELAY_SMTP__SUBMISSION=0.0.0.0:587 \
    RELAY_HTTP__LISTEN=0.0.0.0:8025
USER relay
WORKDIR /var/lib/relay
VOLUME /var/lib/relay
EXPOSE 587 8025
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:%s/healthz' % os.environ['RELAY_HTTP__LISTEN'].rpartition(':')[2], timeout=4)"]
# One process, also as number 1: it waits for the one that it starts, which waits for the workers; nothing else is started.
ENTRYPOINT ["relay"]
CMD ["serve"]
