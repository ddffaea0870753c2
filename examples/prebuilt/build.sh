#!/bin/sh
# Compiles hello.c for each platform, as the CI job of any language would.
set -eu
while read -r compiler dir; do
	mkdir -p "dist/$dir"
	"$compiler" -O2 -static -o "dist/$dir/hello" hello.c
done <<LIST
gcc x86_64
aarch64-linux-gnu-gcc aarch64
arm-linux-gnueabihf-gcc armv7
LIST
