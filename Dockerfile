# An image with the program, the certificates of public CAs, and nothing else: no
# shell, no packages. It runs as a user without privileges and writes only to
# TMPDIR, so its root may be read-only:
#
#   docker build -t flujo-port .
#   docker run --rm --read-only --tmpfs /tmp -v /srv/flujo:/data:ro \
#       -e DATABASE_URL -e PGPASSWORD flujo-port migrate --dry-run
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
# With .git, from which Go takes the version.
COPY . .
ARG TARGETOS
ARG TARGETARCH
RUN GOOS=$TARGETOS GOARCH=$TARGETARCH make build

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/bin/flujo-port /flujo-port
ENV TMPDIR=/tmp
USER 65532:65532
# The folder of the state file, flujo_state.db.
WORKDIR /data
ENTRYPOINT ["/flujo-port"]
