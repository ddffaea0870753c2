# shellcheck shell=bash
# Functions for measuring, which .ci/bench uses. They use that script's variables.

# registry NAME starts a registry and sets address.
registry() {
	if command -v docker-registry >/dev/null; then
		cat >"$work/$1.yml" <<-YAML
			version: 0.1
			storage: {filesystem: {rootdirectory: $work/$1}, delete: {enabled: true}}
			http: {addr: "127.0.0.1:0"}
			log: {level: info, accesslog: {disabled: true}}
		YAML
		docker-registry serve "$work/$1.yml" >/dev/null 2>"$work/$1.log" &
		until address=$(sed -n 's/.*listening on \([0-9.:]*\).*/\1/p' "$work/$1.log") && [ -n "$address" ]; do sleep 0.1; done
		return
	fi
	"$mabuild" registry serve --address 127.0.0.1:0 --dir "$work/$1" >"$work/$1.log" 2>/dev/null &
	until address=$(cat "$work/$1.log") && [ -n "$address" ]; do sleep 0.1; done
}
registry_kind="mabuild's own registries"
! command -v docker-registry >/dev/null || registry_kind=$(docker-registry --version | sed 's/.*distribution \([^ ]*\).*/Distribution \1/')

# digest FILE prints the digest of the file.
digest() { echo "sha256:$(sha256sum <"$1" | cut -d' ' -f1)"; }

# send HOST REPOSITORY FILE DIGEST uploads a blob.
send() {
	local at
	at=$(curl -sS -X POST -D - -o /dev/null "http://$1/v2/$2/blobs/uploads/" | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
	[[ $at == http* ]] || at=http://$1$at
	[[ $at == *\?* ]] && at="$at&digest=$4" || at="$at?digest=$4"
	curl -sSf -o /dev/null -H 'Content-Type: application/octet-stream' -T "$3" "$at"
}

# manifest HOST REPOSITORY NAME TYPE FILE stores a manifest.
manifest() { curl -sSf -o /dev/null -X PUT -H "Content-Type: $4" --data-binary "@$5" "http://$1/v2/$2/manifests/$3"; }

# publish_base HOST REPOSITORY publishes a base: one layer for each platform, of Debian's
# size and incompressible.
base_size=60
publish_base() {
	local p os arch variant at=$work/base children=() oci=application/vnd.oci.image
	mkdir -p "$at/root"
	for p in "${platforms[@]}"; do
		IFS=/ read -r os arch variant <<<"$p"
		head -c "${base_size}M" /dev/urandom >"$at/root/data"
		tar -C "$at/root" -cf "$at/layer.tar" .
		gzip -1 -c "$at/layer.tar" >"$at/layer"
		local platform="\"architecture\":\"$arch\",\"os\":\"$os\"${variant:+,\"variant\":\"$variant\"}"
		printf '{%s,"config":{},"rootfs":{"type":"layers","diff_ids":["%s"]}}' "$platform" "$(digest "$at/layer.tar")" >"$at/config"
		printf '{"schemaVersion":2,"mediaType":"%s.manifest.v1+json","config":{"mediaType":"%s.config.v1+json","digest":"%s","size":%d},"layers":[{"mediaType":"%s.layer.v1.tar+gzip","digest":"%s","size":%d}]}' \
			$oci $oci "$(digest "$at/config")" "$(stat -c %s "$at/config")" $oci "$(digest "$at/layer")" "$(stat -c %s "$at/layer")" >"$at/manifest"
		send "$1" "$2" "$at/layer" "$(digest "$at/layer")"
		send "$1" "$2" "$at/config" "$(digest "$at/config")"
		manifest "$1" "$2" "$(digest "$at/manifest")" $oci.manifest.v1+json "$at/manifest"
		children+=("$(printf '{"mediaType":"%s.manifest.v1+json","digest":"%s","size":%d,"platform":{%s}}' \
			$oci "$(digest "$at/manifest")" "$(stat -c %s "$at/manifest")" "$platform")")
	done
	printf '{"schemaVersion":2,"mediaType":"%s.index.v1+json","manifests":[%s]}' $oci "$(IFS=,; echo "${children[*]}")" >"$at/index"
	manifest "$1" "$2" latest $oci.index.v1+json "$at/index"
	rm -rf "$at"
}

# binary PLATFORM DIR prints the path of a program that go_build compiles.
binary() { echo "$2/${1//\//-}"; }

# go_build PLATFORM DIR compiles with the flags of mabuild.
go_build() {
	local os arch variant
	IFS=/ read -r os arch variant <<<"$1"
	GOOS=$os GOARCH=$arch GOARM=${variant#v} CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags='-s -w' -o "$(binary "$1" "$2")" .
}

# pack_and_send FILE makes a layer of the file, computes both digests, and uploads it.
pack_and_send() {
	tar -C "${1%/*}" -cf - "${1##*/}" | tee >(sha256sum >"$1.diffid") | gzip -1 | tee >(sha256sum >"$1.digest") >"$1.layer"
	until [ -s "$1.digest" ] && [ -s "$1.diffid" ]; do sleep 0.001; done
	send "$host" bare "$1.layer" "sha256:$(cut -d' ' -f1 "$1.digest")"
	rm "$1.digest" "$1.diffid"
}

# compare NAME BEFORE COMMAND… times the commands in turns, $rounds times, each
# after BEFORE.
compare() {
	local name=$1 before=$2 command spent TIMEFORMAT='%R %U %S' _
	shift 2
	for _ in $(seq "$rounds"); do
		for command in "$@"; do
			$before
			spent=$({ time "$command" >/dev/null; } 2>&1)
			awk '{print $1, $2 + $3}' <<<"$spent" >>"$work/times/$name.$command"
		done
	done
}

# middle prints the median of its input.
middle() { sort -n | awk '{t[NR] = $1} END {printf "%.2f", t[int((NR + 1) / 2)]}'; }

# row TITLE NAME MINE THEIRS… prints the median of mabuild's times and, for each of the
# others, the median ratio of the time, of the CPU time, and the median time.
row() {
	local mine=$work/times/$2.$3 theirs command
	printf '%-26s %8ss' "$1" "$(middle <"$mine")"
	for command in "${@:4}"; do
		theirs=$work/times/$2.$command
		if [ -e "$theirs" ]; then
			printf ' %22s' "$(paste "$mine" "$theirs" | awk '{print $1 / $3}' | middle) cpu $(paste "$mine" "$theirs" | awk '{print $2 / $4}' | middle) ($(middle <"$theirs")s)"
		else
			printf ' %22s' -
		fi
	done
	echo
}

# peak COMMAND… prints the highest memory of the process itself, in MB. time(1) would print
# that of its largest compiler.
peak() {
	local high=0 now pid
	"$@" >/dev/null 2>&1 &
	pid=$!
	while now=$(awk '/^VmHWM/ {print $2}' "/proc/$pid/status" 2>/dev/null) && [ -n "$now" ]; do
		high=$now
		sleep 0.005
	done
	wait "$pid"
	echo $((high / 1024))
}

# requests HOST COMMAND… prints the number of requests that the command logs for the host.
requests() { "${@:2}" --progress plain -vv 2>&1 >/dev/null | grep -c " request .*url=http://$1" || true; }

# cpu COMMAND… prints the milliseconds of CPU of one of 20 runs.
cpu() {
	local TIMEFORMAT='%U %S' _
	{ time for _ in {1..20}; do "$@" >/dev/null; done; } 2>&1 | awk '{printf "%.1f", ($1 + $2) * 1000 / 20}'
}

# many measures pushes of 10 and of 50 small programs for 10 platforms. All are linked again
# with a warm build cache.
many() {
	local n all=linux/386,linux/amd64,linux/arm/v6,linux/arm/v7,linux/arm64,linux/loong64,linux/mips64le,linux/ppc64le,linux/riscv64,linux/s390x
	mkdir -p "$work/many" && cd "$work/many"
	printf 'module example.com/many\n\ngo 1.25\n' >go.mod
	for n in $(seq 50); do
		mkdir -p "cmd/p$n"
		printf 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println(%d) }\n' "$n" >"cmd/p$n/main.go"
		[ "$n" = 1 ] && echo builds: >.mabuild.yaml
		printf '  - {id: p%d, main: ./cmd/p%d}\n' "$n" "$n" >>.mabuild.yaml
	done
	"$mabuild" push --platforms "$all" --only p1 --repo "$host/warm" >/dev/null
	for n in 10 50; do
		no_cache
		many_push "$n" "$(seq -s, -f 'p%g' "$n")" "$all"
	done
}

# idle prints the time in hundredths of a second that all cores were idle, with or without
# waiting for the disk, and the total time.
idle() { awk '$1 == "cpu" {print $5 + $6, $2 + $3 + $4 + $5 + $6 + $7 + $8 + $9}' /proc/stat; }

# many_push N IDS PLATFORMS prints a row. The busy time of the cores includes the compilers,
# the registry and all other processes.
many_push() {
	local timer pid high=0 now before after
	before=$(idle)
	/usr/bin/time -o "$work/time" -f '%e %U %S' "$mabuild" push --platforms "$3" --only "$2" --repo "$host/many$1" >/dev/null &
	timer=$!
	until pid=$(pgrep -P $timer); do sleep 0.01; done
	while now=$(awk '/^VmHWM/ {print $2}' "/proc/$pid/status" 2>/dev/null) && [ -n "$now" ]; do
		high=$now
		sleep 0.05
	done
	wait "$timer"
	after=$(idle)
	awk -v n="$1" -v cores="$(nproc)" -v memory="$((high / 1024))" -v before="$before" -v after="$after" \
		'{split(before, b); split(after, a)
		printf "%d programs × 10 platforms: %.1f s, %.0f ms a link, cores %.0f %% busy and %.0f %% with the registry, peak %d MB\n",
			n, $1, $1 * 100 / n, ($2 + $3) * 100 / $1 / cores, 100 - (a[1] - b[1]) * 100 / (a[2] - b[2]), memory}' "$work/time"
}
