#!/bin/sh
# The main task with the defaults: starts a registry on the loopback interface,
# pushes examples/hello for six platforms with the built-in base, inspects the
# result, and runs the host's program from the image.
set -eu
mabuild=$1
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'kill "$registry" 2>/dev/null || true; rm -rf "$work"' EXIT

"$mabuild" registry serve --address 127.0.0.1:0 --dir "$work/registry" >"$work/address" 2>"$work/registry.log" &
registry=$!
until [ -s "$work/address" ]; do
	kill -0 "$registry" || { cat "$work/registry.log"; exit 1; }
	sleep 0.1
done
tag=$(cat "$work/address")/hello:latest

echo "+ mabuild push ./examples/hello --platforms … -t $tag"
image=$("$mabuild" push ./examples/hello \
	--platforms linux/amd64,linux/arm64,linux/arm/v7,linux/ppc64le,linux/s390x,linux/riscv64 \
	-t "$tag")
echo "$image"
echo "+ mabuild inspect $tag"
"$mabuild" inspect "$tag"
echo "+ the host's program, out of the image"
${GO:-go} run ./examples/run "$image"
