#!/bin/bash
# docs/hybrid-cluster.md from top to bottom: what an operator of amd64, arm64 and arm nodes does,
# against two registries on the loopback interface. It prints each command and its output.
#   walk.sh [MABUILD [STEP…]]
# Without STEPs it takes all of them. The steps daemonset, chart and policy go on in a cluster if
# KUBECONFIG names one, in its namespace hybrid, and need the steps go_program and upstream_images.
set -euo pipefail
mabuild=$(realpath "$(type -P "${1:-mabuild}")")
cd "$(dirname "$0")"
shift || true
work=$(mktemp -d)
jobs_=()
cleanup() {
	local status=$?
	if [[ ${KUBECONFIG:-} == "$work/kubeconfig" ]]; then
		kubectl delete --ignore-not-found mutatingadmissionpolicybinding,mutatingadmissionpolicy platforms.mabuild.dev >/dev/null || true
		kubectl delete --ignore-not-found --wait=false namespace hybrid >/dev/null || true
	fi
	for job in "${jobs_[@]}"; do kill "$job" 2>/dev/null || true; done
	wait 2>/dev/null || true
	rm -rf "$work"
	exit $status
}
trap cleanup EXIT
fail() {
	echo "walk: $*" >&2
	cat "$work/errors" >&2 || true
	exit 1
}

# ---- the stage: programs, two registries and a server of releases
mkdir -p "$work/bin" "$work/data/releases" "$work/home"
ln -s "$mabuild" "$work/bin/mabuild"
export PATH=$work/bin:$PATH MABUILD_CACHE=$work/cache MABUILD_PROGRESS=none DOCKER_CONFIG=$work/home
export GOFLAGS=${GOFLAGS:--buildvcs=false}
cp -r .. "$work/examples"
printf 'module github.com/mabuild/mabuild\n\ngo 1.26.0\n' >"$work/go.mod"
cd "$work/examples/hybrid-cluster"

# serve NAME VARIABLE COMMAND… starts a server and sets VARIABLE to the address that it prints.
serve() {
	local name=$1 variable=$2
	shift 2
	"$@" >"$work/$name" 2>"$work/$name.log" &
	jobs_+=($!)
	until [[ -s $work/$name ]]; do
		kill -0 $! 2>/dev/null || { cat "$work/$name.log" >&2; fail "$name does not start"; }
		sleep 0.1
	done
	printf -v "$variable" '%s' "$(<"$work/$name")"
}
serve own OWN mabuild registry serve --address 127.0.0.1:0 --dir "$work/data/own"
serve upstream UPSTREAM mabuild registry serve --address 127.0.0.1:0 --dir "$work/data/upstream"
serve releases RELEASES python3 -c '
import functools, http.server, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
print("127.0.0.1:%d" % server.server_port, flush=True)
server.serve_forever()' "$work/data/releases"

# real puts the addresses in place of the names, and reduced the names in place of the addresses.
# reduced also leaves out what differs between runs: digests, times, sizes and versions of packages.
real() { sed -e "s|registry\.local|$OWN|g; s|quay\.example|$UPSTREAM|g; s|https://releases\.example|http://$RELEASES|g" "$@"; }
reduced() {
	sed -E -e "s|$OWN|registry.local|g; s,$UPSTREAM|${UPSTREAM/:/_},quay.example,g; s|http://$RELEASES|https://releases.example|g" \
		-e 's|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]+Z|…|g; s|bytes=[0-9]+|bytes=…|g; s|sha256:[0-9a-f]{64}|sha256:…|g; s|\b[0-9a-f]{64}\b|…|g; s|=[0-9.]+m?s\b|=…|g; s|in [0-9.]+m?s\b|in …|g; s|(DIGEST) {40,}|\1      |; s|^(IMAGE +) linux|\1linux|; s|[0-9]+\.[0-9]+ ([kM]B)|… \1|g; s|[^ ]+ (sha256:… \(signed\))|… \1|; s| +$||' "$@"
}
real -i ./*.yaml ./*/.mabuild.yaml
# SQLite is compiled without optimisation here, which takes a quarter of the time.
o0='[CGO_CFLAGS=-O0]'
sed -i "s|^cgo: .*|cgo: {static: true, env: {linux/amd64: $o0, linux/arm64: $o0, linux/arm/v7: $o0}}|" ../cgo-sqlite/.mabuild.yaml
: >"$work/errors"

# run prints the command on standard input, runs it and prints its output. It must exit with -c
# CODE. Of its progress, the lines that match -p PATTERN are printed, sorted if it succeeds; of
# its output, with -o PATTERN, only these. -s EXPRESSION is of sed and reduces it further.
run() {
	local want=0 progress='' only='' expression='' code=0 text option OPTIND
	while getopts c:p:o:s: option; do
		case $option in c) want=$OPTARG ;; p) progress=$OPTARG ;; o) only=$OPTARG ;; s) expression=$OPTARG ;; *) return 1 ;; esac
	done
	text=$(cat)
	echo "\$ $text"
	bash -euo pipefail -c "$(real <<<"$text")" >"$work/output" 2>"$work/errors" </dev/null || code=$?
	[[ $code == "$want" ]] || { cat "$work/output"; fail "exit code $code, want $want: $text"; }
	[[ -z $progress ]] || grep -E "$progress" "$work/errors" | reduced | if [[ $code == 0 ]]; then sort; else cat; fi
	if [[ -n $only ]]; then
		grep -E "$only" "$work/output" | reduced
		echo …
	else
		reduced -e "$expression" <"$work/output"
	fi
}
# run_until PATTERN does so with a command that does not end, with all of its progress, and stops
# it when a line of that matches.
run_until() {
	local pattern=$1 code=0 text pid
	text=$(cat)
	echo "\$ $text"
	bash -euo pipefail -c "exec $(real <<<"$text")" >"$work/output" 2>"$work/errors" </dev/null &
	pid=$!
	jobs_+=("$pid")
	for _ in {1..600}; do grep -q "$pattern" "$work/errors" && break; sleep 0.1; done
	kill -TERM "$pid" 2>/dev/null || true
	wait "$pid" || code=$?
	reduced "$work/errors" "$work/output"
	[[ $code == 143 ]] && grep -q "$pattern" "$work/errors" || fail "exit code $code, want 143: $text"
}
step() { printf '\n## %s\n\n' "$1"; }
quietly() { "$@" >/dev/null 2>"$work/errors" || fail "$*"; }

# cluster is true if there is a cluster, in which everything is in the namespace hybrid. It says
# so, and what is left out otherwise.
cluster() {
	if [[ -z ${KUBECONFIG:-} ]]; then
		echo "(the rest of this step needs a cluster: set KUBECONFIG)"
		return 1
	fi
	echo "(in the cluster)"
	[[ $KUBECONFIG != "$work/kubeconfig" ]] || return 0
	! kubectl get mutatingadmissionpolicy platforms.mabuild.dev >/dev/null 2>&1 || fail "the cluster has the policy already"
	quietly kubectl create namespace hybrid
	kubectl config view --raw --flatten >"$work/kubeconfig"
	export KUBECONFIG=$work/kubeconfig # from here on, cleanup removes both
	quietly kubectl config set-context --current --namespace hybrid
}
# publish NAME VERSION ARCH… is what a vendor does: an image for each architecture.
publish() {
	local name=$1 version=$2 arch
	shift 2
	for arch; do quietly mabuild push ../hello --no-index --platforms "linux/${arch/%arm/arm\/v7}" -t "$UPSTREAM/acme/${name/ARCH/$arch}:$version" --ldflags "-X main.version=$version"; done
}

# ---- the steps
go_program() {
	step "A Go program"
	run <<-'SH'
		mabuild push ../hello --platforms linux/amd64,linux/arm64,linux/arm/v7 -t registry.local/hello:v1
	SH
}

cgo_program() {
	step "A Go program with C in it"
	run <<-'SH'
		mabuild -C ../cgo-sqlite push --platforms linux/amd64,linux/arm64,linux/arm/v7 -t registry.local/notes:v1
	SH
}

upstream_images() {
	step "Images of somebody else, one for each architecture"
	publish agent-ARCH v1.4.0 amd64 arm64 arm
	run <<-'SH'
		mabuild mirror --template quay.example/acme/agent-ARCH:v1.4.0 \
		    --platforms linux/amd64,linux/arm64,linux/arm/v7 registry.local/agent:v1.4.0
	SH
	publish agent-ARCH v1.5.0 amd64 arm64 arm
	run <<-'SH'
		mabuild mirror -f mirror.yaml --dry-run
	SH
	run_until 'next run' <<-'SH'
		mabuild mirror -f mirror.yaml --watch --report report.json --progress plain
	SH
	run <<-'SH'
		mabuild tags registry.local/agent
	SH
}

releases() {
	step "A program of somebody else, from the archives of its release"
	local arch dir=prober-0.9.0
	mkdir -p "$work/$dir"
	for arch in amd64 arm64 armv7; do
		quietly env CGO_ENABLED=0 GOOS=linux GOARCH="${arch%v7}" go build -C ../hello -trimpath -ldflags "-s -w -X main.version=v0.9.0" -o "$work/$dir/prober" .
		tar -C "$work" -czf "$work/data/releases/prober-0.9.0-linux-$arch.tar.gz" "$dir"
	done
	(cd "$work/data/releases" && sha256sum -- *.tar.gz >sha256sums.txt)
	run <<-'SH'
		mabuild -C prober lock
	SH
	run <<-'SH'
		mabuild -C prober push
	SH
	# Somebody replaces an archive of the release, and the cache does not have the old one.
	cp "$work/data/releases/prober-0.9.0-linux-armv7.tar.gz" "$work/data/releases/prober-0.9.0-linux-arm64.tar.gz"
	rm -rf "$MABUILD_CACHE"
	run -c 5 -p . <<-'SH'
		mabuild -C prober push
	SH
}

packages() {
	step "An image with iptables"
	# The archive of this machine, and its proxy.
	local suite archive
	suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
	# shellcheck disable=SC2016 # apt's own placeholders
	archive=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' | awk -v suite="$suite" '$1 == suite {print $2; exit}')
	sed -i "s|suite: trixie|suite: $suite|; s|https://deb.example.org/debian|$archive|" firewall/.mabuild.yaml
	http_proxy=$(apt-config dump Acquire::http::Proxy --format '%v' | grep -v '^DIRECT$' || true)
	export http_proxy https_proxy=$http_proxy no_proxy=127.0.0.1
	run -o ' iptables ' <<-'SH'
		mabuild -C firewall lock
	SH
	run -p 'started and passed' <<-'SH'
		mabuild -C firewall push --smoke --progress plain
	SH
}

question() {
	step "Which platforms does it run on?"
	run <<-'SH'
		mabuild inspect registry.local/hello:v1 registry.local/notes:v1 registry.local/prober:v0.9.0 registry.local/firewall:v1
	SH
	run <<-'SH'
		mabuild inspect --require linux/amd64,linux/arm64,linux/arm/v7 registry.local/agent:v1.5.0
	SH
}

release() {
	step "A release"
	openssl ecparam -name prime256v1 -genkey -noout -out sign.key
	openssl ec -in sign.key -pubout -out sign.pub 2>/dev/null
	run -p 'started and passed' <<-'SH'
		mabuild push ../hello --platforms linux/amd64,linux/arm64,linux/arm/v7 -t registry.local/hello:v2 \
		    --ldflags "-X main.version=v2" --smoke --attest --sign sign.key --progress plain
	SH
	run <<-'SH'
		mabuild verify --key sign.pub --require signature,provenance,sbom registry.local/hello:v2
	SH
	run -c 1 -p 'no signature' <<-'SH'
		mabuild verify --key sign.pub registry.local/hello:v1
	SH
}

daemonset() {
	step "One DaemonSet"
	run <<-'SH'
		mabuild place --always --write agent.yaml
	SH
	run <<-'SH'
		mabuild check --nodes nodes.json agent.yaml
	SH
	cluster || return 0
	quietly kubectl apply -f agents.yaml
	run <<-'SH'
		kubectl apply -f agent.yaml
	SH
	run <<-'SH'
		kubectl delete -f agents.yaml -o name
	SH
	quietly kubectl rollout status daemonset/agent --timeout 60s
	run <<-'SH'
		kubectl get pods -l app=agent --sort-by .spec.nodeName -o custom-columns=NODE:.spec.nodeName
	SH
}

chart() {
	step "A chart in a pull request"
	quietly mabuild push ../hello --platforms linux/amd64 -t "$UPSTREAM/acme/exporter:v1"
	run -c 1 <<-'SH'
		mabuild check --nodes nodes.json chart.yaml
	SH
	run <<-'SH'
		mabuild place --nodes nodes.json --write chart.yaml
	SH
	run <<-'SH'
		mabuild check --nodes nodes.json chart.yaml
	SH
	cluster || return 0
	run <<-'SH'
		kubectl apply -f chart.yaml
	SH
	quietly kubectl rollout status deployment/web --timeout 60s
	run -s 's|-[0-9]$|-…|' <<-'SH'
		kubectl get pods -l app=web --sort-by .spec.nodeName -o custom-columns=NODE:.spec.nodeName
	SH
}

policy() {
	step "Every pod, without a change of its manifest"
	quietly mabuild push ../hello --platforms linux/arm64 -t "$UPSTREAM/acme/camera:v2"
	run <<-'SH'
		mabuild place --policy camera.yaml >policy.yaml
	SH
	run <<-'SH'
		tail -n 5 policy.yaml
	SH
	cluster || return 0
	run <<-'SH'
		kubectl apply -f policy.yaml -o name
	SH
	# The API server reads policies in the background.
	for _ in {1..120}; do
		placed=$(kubectl run trial --image "$UPSTREAM/acme/camera:v2" --dry-run=server -o jsonpath='{.spec.affinity}')
		[[ $placed == *arm64* ]] && break
		sleep 0.5
	done
	[[ $placed == *arm64* ]] || { echo "walk: the policy has no effect after a minute" >&2; return 1; }
	run <<-'SH'
		kubectl create -f camera.yaml
	SH
	quietly kubectl rollout status deployment/camera --timeout 60s
	run -s 's|-[0-9]$|-…|' <<-'SH'
		kubectl get pods -l app=camera --sort-by .spec.nodeName -o custom-columns=NODE:.spec.nodeName
	SH
}

steps=("$@")
[[ $# -gt 0 ]] || steps=(go_program cgo_program upstream_images releases packages question release daemonset chart policy)
for one in "${steps[@]}"; do "$one"; done
