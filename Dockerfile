# Two targets: `docker build --target test .` builds and runs all tests; the default is a slim image that runs onpd.

FROM debian:12 AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make git ca-certificates \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# Packages first: this layer is reused as long as the list of packages stays the same.
COPY Makefile ./
COPY .ci/setup .ci/setup
RUN make setup && rm -rf /var/lib/apt/lists/*
COPY . .
RUN make -j"$(nproc)" && make install DESTDIR=/out PREFIX=/usr

FROM build AS test
RUN make -j"$(nproc)" test

FROM debian:12-slim
RUN apt-get update && apt-get install -y --no-install-recommends \
        libmicrohttpd12 libgnutls30 libjansson4 libsqlite3-0 libuv1 libsodium23 libcurl4 libnettle8 libopenblas0-pthread libdnnl2 \
        libprotobuf-c1 libzip4 libspng0 libturbojpeg0 libseccomp2 ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/onp --create-home --shell /usr/sbin/nologin onp
COPY --from=build /out/usr /usr
USER onp
WORKDIR /var/lib/onp
VOLUME /var/lib/onp
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 \
    CMD curl --fail --silent --show-error --max-time 4 http://127.0.0.1:8080/healthz || exit 1
# Settings of onpd by environment. Loopback is the safe default; to reach it from outside the container:
#   docker run -p 127.0.0.1:8080:8080 -e ONP_LISTEN=0.0.0.0:8080 -e ONP_INSECURE=true -e ONP_TOKEN=... onp
# and a proxy with TLS in front of it as soon as other machines are to reach it.
ENV ONP_LISTEN=127.0.0.1:8080 ONP_DATA=/var/lib/onp
ENTRYPOINT ["onpd"]
