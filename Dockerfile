# weightd, weightctl and rolloutd, built from this tree. Their configuration is
# /etc/weightd/weightd.toml, /etc/weightd/rolloutd.toml and the environment.

FROM rust:1.95-trixie AS build
WORKDIR /src
COPY . .
# Keeps the downloads and the build results of cargo for the next build.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --bins && \
    install -D -t /out target/release/weightd target/release/weightctl target/release/rolloutd

FROM debian:trixie-slim
RUN groupadd --system --gid 200 weightd && \
    useradd --system --uid 200 --gid weightd --no-create-home --home-dir /var/lib/weightd weightd && \
    install -d -o weightd -g weightd /var/lib/weightd /run/weightd
# The usual CAs, for a Consul with https://.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/ /usr/bin/
USER weightd
# The accepted weights outlive the container.
VOLUME /var/lib/weightd
# For weightd. A container of rolloutd needs its own check, on port 9112.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/9110 && printf 'GET /ready HTTP/1.0\\r\\n\\r\\n' >&3 && read -r _ code _ <&3 && [ \"$code\" = 200 ]"]
ENTRYPOINT ["weightd"]
