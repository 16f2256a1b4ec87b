#!/usr/bin/env bash
# For CI alone: a Docker engine on a Debian machine that has none, and the images' base out of Debian packages where no image
# registry can be reached. Needs root; installs packages. The last line that it prints is the engine's address.
set -euo pipefail
state=${DOCKER_STATE:-$HOME/.local/state/dockerd}
base=python:3.11-slim-bookworm
export DOCKER_HOST=unix://$state/docker.sock
mkdir -p "$state"

command -v dockerd && command -v debootstrap || {
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    docker.io docker-buildx runc containerd iptables debootstrap ca-certificates ||
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      docker.io runc containerd iptables debootstrap ca-certificates
}

docker info >/dev/null 2>&1 || {
  setsid nohup dockerd --data-root "$state/data" --exec-root "$state/exec" --pidfile "$state/pid" -H "$DOCKER_HOST" \
    >"$state/log" 2>&1 </dev/null &
  for _ in $(seq 60); do docker info >/dev/null 2>&1 && break; sleep 1; done
  docker info >/dev/null
}

docker image inspect "$base" >/dev/null 2>&1 || timeout 60 docker pull "$base" >/dev/null 2>&1 || {
  root=$state/rootfs
  rm -rf "$root"
  debootstrap --variant=minbase --include=python3,python3-pip,python3-venv,ca-certificates bookworm "$root"
  rm -rf "$root"/usr/lib/python3.11/EXTERNALLY-MANAGED "$root"/var/cache/apt/archives/*.deb
  ln -s /usr/bin/python3 "$root/usr/local/bin/python"
  ln -s /usr/bin/pip3 "$root/usr/local/bin/pip"
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  [ ! -f /etc/pip.conf ] || cp /etc/pip.conf "$root/etc/"
  tar -C "$root" -c . | docker import -c 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' - "$base"
  rm -rf "$root"
}
echo "$DOCKER_HOST"
