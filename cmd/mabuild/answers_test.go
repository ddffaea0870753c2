//go:build unix

package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// Responses of credential helpers and registries, and what mabuild prints: the error, the
// hint ("" means none) and the exit code. $R is the registry, $H its host without the port.
var answers = []struct {
	name   string
	helper string // a script; the registry wants credentials then
	kept   string // auth of the entry for the registry
	fault  regtest.Fault
	run    string
	says   string // all of the error
	hint   string
	code   int
}{
	// credential helpers
	{
		name: "a helper fails with words", helper: `echo "Error: no session is open,"; echo " run: vault login" ; exit 1`, run: "inspect $R/app:v1",
		says: "GET $R/app:v1: credentials: docker-credential-tests: Error: no session is open, run: vault login (exit status 1)",
		hint: "log in with the program that docker-credential-tests belongs to; to see its output, run: echo $R | docker-credential-tests get", code: exitCredentials,
	},
	{
		name: "a helper fails without words", helper: `exit 7`, run: "inspect $R/app:v1",
		says: "GET $R/app:v1: credentials: docker-credential-tests: exit status 7",
		hint: "log in with the program that docker-credential-tests belongs to; to see its output, run: echo $R | docker-credential-tests get", code: exitCredentials,
	},
	{
		name: "a helper fails with control characters", helper: `printf 'a\033[31m b\r\nc\342\200\256d\n'; exit 1`, run: "inspect $R/app:v1",
		says: "GET $R/app:v1: credentials: docker-credential-tests: a[31m b c?d (exit status 1)",
		hint: "log in with the program that docker-credential-tests belongs to; to see its output, run: echo $R | docker-credential-tests get", code: exitCredentials,
	},
	{
		name: "a helper fails with an answer", helper: `echo '{"Username":"me","Secret":"s3cr3t"}'; exit 1`, run: "inspect $R/app:v1",
		says: "GET $R/app:v1: credentials: docker-credential-tests: exit status 1",
		hint: "log in with the program that docker-credential-tests belongs to; to see its output, run: echo $R | docker-credential-tests get", code: exitCredentials,
	},
	{
		name: "a helper fails with one word", helper: `echo s3cr3t; exit 1`, run: "inspect $R/app:v1",
		says: "GET $R/app:v1: credentials: docker-credential-tests: exit status 1",
		hint: "log in with the program that docker-credential-tests belongs to; to see its output, run: echo $R | docker-credential-tests get", code: exitCredentials,
	},
	{
		name: "a helper fails with a secret on standard error", helper: `echo "the token is s3cr3t" >&2; exit 1`, run: "inspect $R/app:v1",
		says: "GET $R/app:v1: credentials: docker-credential-tests: exit status 1",
		hint: "log in with the program that docker-credential-tests belongs to; to see its output, run: echo $R | docker-credential-tests get", code: exitCredentials,
	},
	{
		name: "a helper fails with an address", helper: `echo "cannot reach https://me:s3cr3t@vault.example/v1"; exit 1`, run: "inspect $R/app:v1",
		says: "GET $R/app:v1: credentials: docker-credential-tests: cannot reach https://vault.example/v1 (exit status 1)",
		hint: "log in with the program that docker-credential-tests belongs to; to see its output, run: echo $R | docker-credential-tests get", code: exitCredentials,
	},
	{
		name: "a helper fails with a long story", helper: `i=0; while [ $i -lt 100 ]; do echo "all of it again"; i=$((i+1)); done; exit 1`, run: "inspect $R/app:v1",
		says: "GET $R/app:v1: credentials: docker-credential-tests: " + strings.TrimSpace(strings.Repeat("all of it again ", 16)) + " … (exit status 1)",
		hint: "log in with the program that docker-credential-tests belongs to; to see its output, run: echo $R | docker-credential-tests get", code: exitCredentials,
	},
	{
		name: "a helper answers with garbage", helper: `echo the secret is s3cr3t`, run: "inspect $R/app:v1",
		says: "GET $R/app:v1: credentials: docker-credential-tests: the output is not from a credential helper",
		hint: "log in with the program that docker-credential-tests belongs to; to see its output, run: echo $R | docker-credential-tests get", code: exitCredentials,
	},
	{
		name: "a helper has nothing", helper: `echo "credentials not found in native keychain"; exit 1`, run: "inspect $R/app:v1",
		says: "GET $R/app:v1: 401 UNAUTHORIZED: authentication required", hint: "no credentials for $R are stored. Run: mabuild login $R", code: exitCredentials,
	},
	{
		name: "a helper has wrong ones", helper: `echo '{"Username":"me","Secret":"s3cr3t"}'`, run: "inspect $R/app:v1",
		says: "GET $R/app:v1: 401 UNAUTHORIZED: authentication required", hint: "the credentials from docker-credential-tests were rejected; log in again with the program that the helper belongs to", code: exitCredentials,
	},
	{
		name: "a helper's are not enough", helper: `echo '{"Username":"me","Secret":"secret"}'`, run: "mirror $S/app:v1 $R/new:v1",
		fault: regtest.Fault{Method: "POST", Status: 403, Body: denied},
		says:  "$R/new:v1: POST $R/new@SHA: 403 DENIED: no", hint: "the credentials from docker-credential-tests lack permission; log in to another account, with the program that the helper belongs to", code: exitCredentials,
	},
	{
		name: "a helper keeps nothing", helper: `if [ $1 = get ]; then echo "credentials not found in native keychain"; else echo "this helper only reads"; fi; exit 1`, run: "login $R -u me -p secret",
		says: "docker-credential-tests: this helper only reads (exit status 1)",
		hint: "log in with the program that docker-credential-tests belongs to, or remove it from $C", code: exitCredentials,
	},
	// registries
	{
		name: "kept ones are wrong", kept: "bWU6d3Jvbmc=", run: "inspect $R/app:v1",
		says: "GET $R/app:v1: 401 UNAUTHORIZED: authentication required", hint: "The credentials in $C were rejected. Run: mabuild login $R", code: exitCredentials,
	},
	{
		name: "401 without a challenge", fault: regtest.Fault{Status: 401}, run: "inspect $R/app:v1",
		says: "GET $R/app:v1: 401 Unauthorized: the registry requires authentication, but the answer has no WWW-Authenticate header",
		hint: "check for a proxy in front of $R that removes the header, or for another server in its place", code: exitCredentials,
	},
	{
		name: "401 with another challenge", fault: regtest.Fault{Status: 401, Header: http.Header{"Www-Authenticate": {"Negotiate, NTLM"}}}, run: "inspect $R/app:v1",
		says: "GET $R/app:v1: 401 Unauthorized: the registry requires authentication by negotiate, ntlm; mabuild supports Basic and Bearer",
		hint: "check for another server at $R; a registry uses one of these two", code: exitCredentials,
	},
	{
		name: "a token server elsewhere", kept: "bWU6c2VjcmV0", run: "inspect $R/app:v1",
		fault: regtest.Fault{Status: 401, Header: http.Header{"Www-Authenticate": {`Bearer realm="https://auth.invalid/token",service="x"`}}},
		says:  "GET $R/app:v1: the token server auth.invalid is not allowed to receive the credentials",
		hint:  "if you trust it with the credentials, use --trust-realm auth.invalid", code: exitCredentials,
	},
	{
		name: "a pause that is too long", fault: regtest.Fault{Status: 429, Header: http.Header{"Retry-After": {"Fri, 01 Jan 2100 00:00:00 GMT"}}}, run: "inspect $R/app:v1",
		says: "GET $R/app:v1: 429 Too Many Requests", hint: "the registry asks to wait until TIME", code: exitRegistry,
	},
	{
		name: "a quota that is used up", fault: regtest.Fault{Status: 429, Header: http.Header{"Ratelimit-Limit": {"100;w=21600"}, "Ratelimit-Remaining": {"0;w=21600"}}}, run: "inspect $R/app:v1",
		says: "GET $R/app:v1: 429 Too Many Requests", hint: "the quota of 100 pulls per 6h0m0s is used up; wait until TIME, or use an account with a larger quota", code: exitRegistry,
	},
	{
		name: "an upload without the port", fault: regtest.Fault{Method: "POST", Status: 202, Header: http.Header{"Location": {"http://127.0.0.1/v2/new/blobs/uploads/x"}}}, run: "mirror $S/app:v1 $R/new:v1",
		says: "$R/new:v1: PUT $R/new@SHA: the registry redirects the upload to http://127.0.0.1, without its port $P: dial tcp 127.0.0.1:80: connect: connection refused (3 attempts)",
		hint: "the proxy in front of $R must pass on the Host header with its port (proxy_set_header Host $http_host in nginx)", code: exitRegistry,
	},
	{
		name: "Quay's immutable tag", fault: regtest.Fault{Method: "PUT", Path: "/manifests/old", Status: 409, Body: code("TAG_IMMUTABLE", "tag is immutable")}, run: "mirror $S/app:v1 $R/app:old",
		says: "$R/app:old: PUT $R/app:old: 409 TAG_IMMUTABLE: the tag is immutable and already points to another image: tag is immutable",
		hint: "push to another tag, or allow the registry to overwrite tags of $R/app", code: exitRegistry,
	},
	{
		name: "an immutable tag by 403", fault: regtest.Fault{Method: "PUT", Path: "/manifests/old", Status: 403, Body: code("IMMUTABLE_TAG", "no")}, run: "mirror $S/app:v1 $R/app:old",
		says: "$R/app:old: PUT $R/app:old: 403 IMMUTABLE_TAG: the tag is immutable and already points to another image: no",
		hint: "push to another tag, or allow the registry to overwrite tags of $R/app", code: exitRegistry,
	},
	{
		name: "ECR's immutable tag", fault: regtest.Fault{Method: "PUT", Path: "/manifests/old", Status: 400, Body: code("TAG_INVALID", "cannot be overwritten")}, run: "mirror $S/app:v1 $R/app:old",
		says: "$R/app:old: PUT $R/app:old: 400 TAG_INVALID: the tag is immutable and already points to another image: cannot be overwritten",
		hint: "push to another tag, or allow the registry to overwrite tags of $R/app", code: exitRegistry,
	},
	{
		name: "ECR's immutable tag by its own code", fault: regtest.Fault{Method: "PUT", Path: "/manifests/old", Status: 400, Body: code("ImageTagAlreadyExistsException", "")}, run: "mirror $S/app:v1 $R/app:old",
		says: "$R/app:old: PUT $R/app:old: 400 ImageTagAlreadyExistsException: the tag is immutable and already points to another image",
		hint: "push to another tag, or allow the registry to overwrite tags of $R/app", code: exitRegistry,
	},
	{
		name: "Harbor's immutable tag", fault: regtest.Fault{Method: "PUT", Path: "/manifests/old", Status: 412, Body: code("PRECONDITION", "configured as immutable")}, run: "mirror $S/app:v1 $R/app:old",
		says: "$R/app:old: PUT $R/app:old: 412 PRECONDITION: the tag is immutable and already points to another image: configured as immutable",
		hint: "push to another tag, or allow the registry to overwrite tags of $R/app", code: exitRegistry,
	},
	{
		name: "409 without a code", fault: regtest.Fault{Method: "PUT", Path: "/manifests/old", Status: 409}, run: "mirror $S/app:v1 $R/app:old",
		says: "$R/app:old: PUT $R/app:old: 409 Conflict: the tag is immutable and already points to another image",
		hint: "push to another tag, or allow the registry to overwrite tags of $R/app", code: exitRegistry,
	},
	{
		name: "409 for a tag that is new", fault: regtest.Fault{Method: "PUT", Path: "/manifests/new", Status: 409}, run: "mirror $S/app:v1 $R/app:new",
		says: "$R/app:new: PUT $R/app:new: 409 Conflict", code: exitRegistry,
	},
	{
		name: "an invalid name of a tag that is new", fault: regtest.Fault{Method: "PUT", Path: "/manifests/new", Status: 400, Body: code("TAG_INVALID", "no")}, run: "mirror $S/app:v1 $R/app:new",
		says: "$R/app:new: PUT $R/app:new: 400 TAG_INVALID: no", code: exitRegistry,
	},
	{
		name: "403 for a tag that exists", fault: regtest.Fault{Method: "PUT", Path: "/manifests/old", Status: 403, Body: denied}, run: "mirror $S/app:v1 $R/app:old",
		says: "$R/app:old: PUT $R/app:old: 403 DENIED: no", hint: "mabuild login $R; or, if the tag cannot be overwritten, push to another tag", code: exitCredentials,
	},
	{
		name: "an index that an old registry does not take, create", fault: regtest.Fault{Method: "PUT", Path: "/manifests/", Status: 400, Body: code("MANIFEST_INVALID", "manifest invalid")}, run: "manifest create $R/app:made $R/app:one --type oci",
		says: "PUT $R/app:made: 400 MANIFEST_INVALID: the registry does not accept this manifest of type application/vnd.oci.image.index.v1+json: manifest invalid",
		hint: "old registries do not support OCI media types: try --type docker if all images are Docker's", code: exitRegistry,
	},
	{
		name: "an index that an old registry does not take, push", fault: regtest.Fault{Method: "PUT", Path: "/manifests/made", Status: 400, Body: code("MANIFEST_INVALID", "manifest invalid")}, run: "push ./ok --platforms linux/amd64 -t $R/new:made",
		says: "PUT $R/new:made: 400 MANIFEST_INVALID: the registry does not accept this manifest of type application/vnd.oci.image.index.v1+json: manifest invalid",
		hint: "old registries do not support OCI media types or indexes: try --media-types docker, or --no-index with one platform", code: exitRegistry,
	},
	{
		name: "a list that an old registry does not take", fault: regtest.Fault{Method: "PUT", Path: "/manifests/made", Status: 400, Body: code("MANIFEST_INVALID", "manifest invalid")}, run: "push ./ok --platforms linux/amd64 -t $R/new:made --media-types docker",
		says: "PUT $R/new:made: 400 MANIFEST_INVALID: the registry does not accept this manifest of type application/vnd.docker.distribution.manifest.list.v2+json: manifest invalid",
		hint: "old registries do not support indexes: try --no-index with one platform", code: exitRegistry,
	},
	{
		name: "an image that an old registry does not take", fault: regtest.Fault{Method: "PUT", Path: "/manifests/made", Status: 400, Body: code("MANIFEST_INVALID", "manifest invalid")}, run: "push ./ok --platforms linux/amd64 -t $R/new:made --no-index",
		says: "PUT $R/new:made: 400 MANIFEST_INVALID: the registry does not accept this manifest of type application/vnd.oci.image.manifest.v1+json: manifest invalid",
		hint: "old registries do not support OCI media types: try --media-types docker", code: exitRegistry,
	},
	{
		name: "chunks that a proxy does not take", fault: regtest.Fault{Method: "P(UT|ATCH)", Path: "/uploads/", Status: 413}, run: "mirror $S/app:v1 $R/new:v1",
		says: "$R/new:v1: PATCH $R/new@SHA: 413 Request Entity Too Large",
		hint: "a proxy in front of $R may limit the size of requests (client_max_body_size in nginx); it must accept 65536 bytes", code: exitRegistry,
	},
}

const denied = `{"errors":[{"code":"DENIED","message":"no"}]}`

func code(name, message string) string {
	return fmt.Sprintf(`{"errors":[{"code":%q,"message":%q}]}`, name, message)
}

func TestAnswers(t *testing.T) {
	source := regtest.Start(t, regtest.Options{})
	open, closed := regtest.Start(t, regtest.Options{}), regtest.Start(t, regtest.Options{User: "me", Password: "secret"})
	put := func(ref string, archs ...string) {
		t.Helper()
		if err := (&registry.Client{}).Put(t.Context(), ref, regtest.RandomIndex(t, 100, 1, archs...)); err != nil {
			t.Fatal(err)
		}
	}
	put(source.Host+"/app:v1", "amd64", "arm64")
	put(open.Host+"/app:old", "amd64")
	one := regtest.Image(t, "amd64", 100, 1)
	if err := (&registry.Client{}).Put(t.Context(), open.Host+"/app:one", one); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOCACHE", goCache(t))
	astray(t)
	digests, times := regexp.MustCompile(`sha256:[0-9a-f]{64}`), regexp.MustCompile(`[0-9-]{10}T[0-9:]{8}Z`)
	for _, one := range answers {
		t.Run(one.name, func(t *testing.T) {
			home := t.TempDir()
			t.Setenv("HOME", home)
			t.Setenv("DOCKER_CONFIG", home)
			t.Setenv("REGISTRY_AUTH_FILE", "")
			t.Setenv("XDG_RUNTIME_DIR", home)
			r, config := open, "{}"
			switch {
			case one.helper != "":
				r, config = closed, `{"credsStore":"tests"}`
			case one.kept != "":
				r, config = closed, `{"auths":{"`+closed.Host+`":{"auth":"`+one.kept+`"}}}`
			}
			for file, text := range map[string]string{"config.json": config, "docker-credential-tests": "#!/bin/sh\n" + one.helper} {
				if err := os.WriteFile(filepath.Join(home, file), []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", home+string(os.PathListSeparator)+os.Getenv("PATH"))
			r.Reset()
			for _, method := range methods(one.fault.Method) {
				f := one.fault
				f.Method, f.Times = method, -1
				if f.Status != 0 {
					r.Inject(f)
				}
			}
			fill := strings.NewReplacer("$R", r.Host, "$S", source.Host, "$P", r.Host[strings.LastIndexByte(r.Host, ':')+1:], "$C", filepath.Join(home, "config.json")).Replace
			var out, errs bytes.Buffer
			code := run(append(strings.Fields(fill(one.run)), "--progress", "none"), strings.NewReader(""), &out, &errs)
			want := "mabuild: " + fill(one.says) + "\n"
			if one.hint != "" {
				want += "hint: " + fill(one.hint) + "\n"
			}
			if strings.HasPrefix(one.run, "push ./ok") {
				want += "nothing was published; no tag was changed\n"
			}
			got := times.ReplaceAllString(digests.ReplaceAllString(errs.String(), "SHA"), "TIME")
			if at := strings.Index(got, "mabuild: "); at >= 0 {
				got = got[at:]
			}
			if code != one.code || got != want {
				t.Errorf("exit code %d, want %d\n got %s\nwant %s", code, one.code, got, want)
			}
			if all := out.String() + errs.String(); strings.Contains(all, "s3cr3t") {
				t.Errorf("a secret: %s", all)
			}
		})
	}
}

// goCache is the build cache of the real home.
func goCache(t *testing.T) string {
	t.Helper()
	built, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE").Output()
	must(t, err)
	return strings.TrimSpace(string(built))
}

// methods are those that a pattern of the table stands for.
func methods(pattern string) []string {
	if pattern == "P(UT|ATCH)" {
		return []string{"PUT", "PATCH"}
	}
	return []string{pattern}
}
