# lifeboat in a container: one static program, certificates, and nothing else. docs/docker.md says how to run it.
#
#   docker build -t lifeboat .
#
# RUST_IMAGE may be any image with Rust, a C compiler and certificates; no builder but the classic one is needed.
ARG RUST_IMAGE=rust:1.95-bookworm

FROM ${RUST_IMAGE} AS build
LABEL dev.lifeboat.stage="build"
WORKDIR /src
COPY . .
# glibc itself is linked in: the last stage has no libraries. Naming the target keeps the flag away from what runs
# during the build.
RUN RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --bin lifeboat --target host-tuple
RUN set -eu; \
    install -D -m 0755 target/*/release/lifeboat /rootfs/usr/bin/lifeboat; \
    install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /rootfs/etc/ssl/certs/ca-certificates.crt; \
    echo 'lifeboat:x:65532:65532:lifeboat:/var/lib/lifeboat:/sbin/nologin' >/rootfs/etc/passwd; \
    echo 'lifeboat:x:65532:' >/rootfs/etc/group; \
    mkdir -p /rootfs/etc/lifeboat /own/lib /own/backups; \
    chmod 0700 /own/lib /own/backups; \
    # Where an image links dynamically all the same, its libraries come along.
    for library in $(ldd /rootfs/usr/bin/lifeboat 2>/dev/null | grep -o '/[^ ]*' || true); do \
      install -D -m 0755 "$library" "/rootfs$library"; \
    done

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="lifeboat" \
      org.opencontainers.image.description="Backups of Docker Compose stacks that have been proven to restore" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      lifeboat.enable="false"
COPY --from=build /rootfs /
# Volumes that are made from the image take over whose these are.
COPY --from=build --chown=65532:65532 /own/lib /var/lib/lifeboat
COPY --from=build --chown=65532:65532 /own/backups /var/backups/lifeboat
ENV PATH=/usr/bin \
    HOME=/var/lib/lifeboat \
    LIFEBOAT_STATE_DIR=/var/lib/lifeboat \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
WORKDIR /etc/lifeboat
USER 65532:65532
VOLUME ["/var/lib/lifeboat"]
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["lifeboat", "daemon", "--healthcheck"]
ENTRYPOINT ["lifeboat"]
CMD ["daemon"]
