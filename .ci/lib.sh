# shellcheck shell=bash
# Functions that the end-to-end scripts share. They set $root, the repository, and source
# this file.
work=$(mktemp -d /tmp/e2e.XXXXXX)
passed=0
pass() { passed=$((passed + 1)); echo "ok $passed - $*"; }
fail() { echo "not ok - $*" >&2; tail -qn 3 "$work"/*.log >&2 || true; exit 1; }

pids=()
first() { :; } # what a script does before its processes end
cleanup() {
	status=$?
	first || true
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
	wait 2>/dev/null || true
	podman system reset --force >/dev/null 2>&1 || true
	umount "$work"/*/*/merged 2>/dev/null || true
	rm -rf "$work" 2>/dev/null || true
	exit $status
}
trap cleanup EXIT

# free_port prints a port that is not in use.
free_port() {
	local port
	while port=$((20000 + RANDOM % 20000)); do
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
	done
}

# registry NAME [log] [YAML] starts Debian's docker-registry and sets NAME to its host; with
# log it writes each request to $work/NAME.log. YAML is added to its configuration.
registry() {
	local port silent=true
	[[ ${2:-} != log ]] || silent=false
	port=$(free_port)
	cat >"$work/$1.yml" <<-YAML
		version: 0.1
		log: {level: error, accesslog: {disabled: $silent}}
		storage: {filesystem: {rootdirectory: $work/$1}, delete: {enabled: true}}
		http: {addr: "127.0.0.1:$port"}
		${3:-}
	YAML
	docker-registry serve "$work/$1.yml" >"$work/$1.log" 2>&1 &
	pids+=($!)
	until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
		kill -0 $! || fail "docker-registry does not start"
		sleep 0.1
	done
	printf -v "$1" '127.0.0.1:%s' "$port"
}

# start_docker starts a separate Docker daemon and waits for it.
start_docker() {
	export DOCKER_HOST=unix://$work/docker.sock DOCKER_CONFIG=$work/docker-config
	mkdir "$DOCKER_CONFIG"
	echo '{}' >"$DOCKER_CONFIG/config.json"
	dockerd --data-root "$work/docker" --exec-root "$work/docker-exec" --pidfile "$work/docker.pid" -H "$DOCKER_HOST" \
		--iptables=false --bridge=none >"$work/dockerd.log" 2>&1 &
	pids+=($!)
	for _ in $(seq 100); do docker version >/dev/null 2>&1 && break; sleep 0.2; done
	docker version >/dev/null || fail "the docker daemon does not start"
}

# use_podman makes podman store everything below $work.
use_podman() {
	printf '%s\n' '[containers]' 'default_ulimits=["nofile=1024:1024","nproc=1024:1024"]' >"$work/containers.conf"
	export CONTAINERS_CONF=$work/containers.conf
}
podman() { command podman --root "$work/podman" --runroot "$work/podman-run" --runtime runc --cgroup-manager=cgroupfs "$@"; }

# run_podman ARGUMENT… is podman run. Podman 4.3 may lose the exit code of a container that
# ends at once. Such a run proves nothing, so it is repeated, three times at most.
run_podman() {
	local code
	for _ in 1 2 3; do
		code=0
		podman run "$@" >"$work/podman.out" 2>"$work/podman.err" || code=$?
		[[ $code != 0 ]] && grep -q 'no such exit code' "$work/podman.err" || break
	done
	cat "$work/podman.err" >&2
	cat "$work/podman.out"
	return "$code"
}

# run_docker REF PLATFORM ARGUMENT… pulls and runs one platform.
run_docker() {
	local ref=$1 platform=$2
	shift 2
	docker pull -q --platform "$platform" "$ref" >/dev/null
	docker run --rm --network none --platform "$platform" "$ref" "$@"
}

# For the registries UP and REG with logs: forget resets the count, and asked NAME prints
# the requests since then, by kind.
declare -A seen
forget() { for name in UP REG; do seen[$name]=$(wc -l <"$work/$name.log"); done; }
asked() {
	tail -n +$((seen[$1] + 1)) "$work/$1.log" | awk '
		match($0, /"(GET|HEAD|PUT|POST|PATCH|DELETE) [^"]*"/) {
			split(substr($0, RSTART + 1, RLENGTH - 2), r, " ")
			kind = r[2] ~ /\/blobs\/uploads\// ? "upload" : r[2] ~ /\/blobs\// ? "blob" : r[2] ~ /\/manifests\// ? "manifest" : r[2] ~ /\/tags\/list/ ? "tags" : r[2] ~ /\/referrers\// ? "referrers" : r[2]
			n[r[1] " " kind]++
		}
		END { for (k in n) print k "=" n[k] }' | sort | paste -sd, -
}

# publish_many HOST/NAME TAG… publishes an index under each tag: six images that no other
# tag has, with blobs that all tags share. $work/made has the manifests, made their digests,
# config one manifest of each architecture, $work/made.sums the sums.
archs=(amd64 arm64 arm ppc64le s390x riscv64)
declare -A config made
sums() { (cd "$1" && sha256sum -- *) | sort; }
many() { curl --parallel --parallel-max 16 -fsS "$@" 2>"$work/curl.log"; }
publish_many() {
	local repo=$1 tag arch list comma body digest file kind
	shift
	put() {
		printf 'url = "http://%s/v2/%s/manifests/%s"\nupload-file = "%s"\noutput = "/dev/null"\n' "${repo%%/*}" "${repo#*/}" "$2" "$1"
	}
	mkdir "$work/tree"
	echo tiny >"$work/tree/tiny"
	tar -C "$work/tree" --mtime=@0 --owner=0 --group=0 -cf "$work/tiny.tar" tiny
	for arch in "${archs[@]}"; do
		"$crane" append --insecure --oci-empty-base -f "$work/tiny.tar" -t "$repo-seed:$arch" >/dev/null 2>&1
		"$crane" mutate --insecure --set-platform "linux/$arch" "$repo-seed:$arch" >/dev/null 2>&1
		config[$arch]=$("$crane" manifest --insecure "$repo-seed:$arch")
	done
	for digest in $(grep -o 'sha256:[0-9a-f]*' <<<"${config[*]}" | sort -u); do
		curl -fsS -X POST "http://${repo%%/*}/v2/${repo#*/}/blobs/uploads/?mount=$digest&from=${repo#*/}-seed"
	done
	mkdir "$work/made"
	for tag in "$@"; do
		for arch in "${archs[@]}"; do printf '%s,"annotations":{"tag":"%s"}}' "${config[$arch]%\}}" "$tag" >"$work/made/$tag.$arch"; done
	done
	while read -r digest file; do made[$file]=$digest; done < <(sums "$work/made")
	for tag in "$@"; do
		list= comma=
		for arch in "${archs[@]}"; do
			body=${config[$arch]%\}}",\"annotations\":{\"tag\":\"$tag\"}}"
			list+="$comma{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"sha256:${made[$tag.$arch]}\",\"size\":${#body},\"platform\":{\"os\":\"linux\",\"architecture\":\"$arch\"}}" comma=,
		done
		printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s]}' "$list" >"$work/made/$tag.index"
	done
	sums "$work/made" >"$work/made.sums"
	for tag in "$@"; do for arch in "${archs[@]}"; do put "$work/made/$tag.$arch" "sha256:${made[$tag.$arch]}"; done; done >"$work/manifest.curl"
	for tag in "$@"; do put "$work/made/$tag.index" "$tag"; done >"$work/index.curl"
	for kind in manifest index; do
		many -H "Content-Type: application/vnd.oci.image.$kind.v1+json" -K "$work/$kind.curl" || fail "$kind: $(head -n 3 "$work/curl.log")"
	done
}
