# shellcheck shell=bash
# What the end-to-end scripts share. They set $root, the repository, and source this.
work=$(mktemp -d /tmp/e2e.XXXXXX)
passed=0
pass() { passed=$((passed + 1)); echo "ok $passed - $*"; }
fail() { echo "not ok - $*" >&2; tail -qn 3 "$work"/*.log >&2 || true; exit 1; }

pids=()
cleanup() {
	status=$?
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
	wait 2>/dev/null || true
	podman system reset --force >/dev/null 2>&1 || true
	umount "$work"/*/*/merged 2>/dev/null || true
	rm -rf "$work" 2>/dev/null || true
	exit $status
}
trap cleanup EXIT

# free_port prints a port that nobody listens on.
free_port() {
	local port
	while port=$((20000 + RANDOM % 20000)); do
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
	done
}

# registry NAME [log] starts Debian's docker-registry and sets NAME to its host; with
# log it writes each request to $work/NAME.log.
registry() {
	local port silent=true
	[[ ${2:-} != log ]] || silent=false
	port=$(free_port)
	cat >"$work/$1.yml" <<-YAML
		version: 0.1
		log: {level: error, accesslog: {disabled: $silent}}
		storage: {filesystem: {rootdirectory: $work/$1}, delete: {enabled: true}}
		http: {addr: "127.0.0.1:$port"}
	YAML
	docker-registry serve "$work/$1.yml" >"$work/$1.log" 2>&1 &
	pids+=($!)
	until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
		kill -0 $! || fail "docker-registry does not start"
		sleep 0.1
	done
	printf -v "$1" '127.0.0.1:%s' "$port"
}

# start_docker starts a Docker daemon of its own and waits for it.
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

# use_podman has podman keep what it stores below $work.
use_podman() {
	printf '%s\n' '[containers]' 'default_ulimits=["nofile=1024:1024","nproc=1024:1024"]' >"$work/containers.conf"
	export CONTAINERS_CONF=$work/containers.conf
}
podman() { command podman --root "$work/podman" --runroot "$work/podman-run" --runtime runc --cgroup-manager=cgroupfs "$@"; }

# run_docker REF PLATFORM ARGUMENT… pulls and runs one platform.
run_docker() {
	local ref=$1 platform=$2
	shift 2
	docker pull -q --platform "$platform" "$ref" >/dev/null
	docker run --rm --network none --platform "$platform" "$ref" "$@"
}
