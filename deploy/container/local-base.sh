#!/usr/bin/env bash
# Builds the two base images from what this machine has, where no container registry can be reached (root; Debian).
#
#   deploy/container/local-base.sh [folder for temporary files]
#
# Debian comes from the mirror that this machine's own apt uses, Node from the project's packages, npm and the
# certificates from this machine, nats-server from wherever `builder local up` finds it. Prints what to give the build.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d "${1:-${TMPDIR:-/tmp}}/lattice-base.XXXXXX")
trap 'rm -rf "$work"' EXIT
say() { printf '%s\n' "$*" >&2; }

node=$(ls "$root"/node_modules/node-linux-*/bin/node 2>/dev/null | head -n 1)
[ -n "$node" ] || { say "no Node below node_modules: run npm ci first"; exit 5; }
npm=$(npm root -g 2>/dev/null)/npm
[ -f "$npm/bin/npm-cli.js" ] || { say "no npm on this machine"; exit 5; }
mirror=$(apt-get indextargets --format '$(CREATED_BY) $(COMPONENT) $(RELEASE) $(REPO_URI)' |
  awk '$1 == "Packages" && $2 == "main" && $3 == "bookworm" && $4 ~ /\/debian\/?$/ { print $4; exit }')
[ -n "$mirror" ] || { say "apt on this machine knows no mirror of Debian bookworm"; exit 5; }

say "Debian bookworm (debootstrap)"
debootstrap --variant=minbase --include=ca-certificates bookworm "$work/rootfs" "$mirror" >"$work/debootstrap.log" 2>&1 ||
  { tail -n 5 "$work/debootstrap.log" >&2; exit 1; }
rm -rf "$work"/rootfs/var/cache/apt/* "$work"/rootfs/var/lib/apt/lists/* "$work"/rootfs/usr/share/{doc,man,locale}/*

say "Node $("$node" --version) and npm"
cp "$node" "$work/rootfs/usr/local/bin/node"
mkdir -p "$work/rootfs/usr/local/lib/node_modules"
cp -r "$npm" "$work/rootfs/usr/local/lib/node_modules/npm"
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$work/rootfs/usr/local/bin/npm"
certificates=/etc/ssl/certs/ca-certificates.crt
cp "$certificates" "$work/rootfs$certificates"
tar -C "$work/rootfs" -c . | docker import \
  --change "ENV NODE_EXTRA_CA_CERTS=$certificates" --change 'CMD ["node"]' - lattice-base/node:24 >/dev/null

say "nats-server"
nats=$("$node" --disable-warning=ExperimentalWarning --input-type=module -e '
  import { pathToFileURL } from "node:url";
  const { provideNatsServer } = await import(pathToFileURL(process.argv[1]).href);
  console.log((await provideNatsServer()).path);
' "$root/deploy/src/local/broker.ts")
mkdir -p "$work/nats/usr/local/bin"
cp "$nats" "$work/nats/usr/local/bin/nats-server"
tar -C "$work/nats" -c . | docker import - lattice-base/nats:2 >/dev/null

echo "export NODE_IMAGE=lattice-base/node:24 NATS_IMAGE=lattice-base/nats:2"
