package plan

import (
	"bytes"
	"encoding/base64"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mabuild/mabuild/build"
	"github.com/mabuild/mabuild/internal/attest"
	"github.com/mabuild/mabuild/internal/config"
	"github.com/mabuild/mabuild/internal/publish"
)

// environ returns a function that looks up variables.
func environ(all map[string]string) func(string) string {
	return func(name string) string { return all[name] }
}

// The key attest stands for provenance and SBOMs, and for a signature if the environment has
// a key or an identity.
func TestAttested(t *testing.T) {
	for name, c := range map[string]struct {
		attest bool
		env    map[string]string
		want   [3]string // provenance, sbom, sign
	}{
		"off":                      {false, map[string]string{"COSIGN_PRIVATE_KEY": "x"}, [3]string{"none", "none", "none"}},
		"without an identity":      {true, nil, [3]string{"min", "spdx", "none"}},
		"a key":                    {true, map[string]string{"COSIGN_PRIVATE_KEY": "x"}, [3]string{"min", "spdx", "env://COSIGN_PRIVATE_KEY"}},
		"GitHub":                   {true, map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": "https://x"}, [3]string{"min", "spdx", "cosign"}},
		"GitLab":                   {true, map[string]string{"SIGSTORE_ID_TOKEN": "x"}, [3]string{"min", "spdx", "cosign"}},
		"a key before an identity": {true, map[string]string{"SIGSTORE_ID_TOKEN": "x", "COSIGN_PRIVATE_KEY": "x"}, [3]string{"min", "spdx", "env://COSIGN_PRIVATE_KEY"}},
	} {
		conf := &config.Config{Attest: c.attest, Provenance: "none", SBOM: "none", Sign: "none"}
		Attested(conf, environ(c.env))
		if got := [3]string{conf.Provenance, conf.SBOM, conf.Sign}; got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// What cannot be signed is refused before anything is built.
func TestSetAttestations(t *testing.T) {
	for name, c := range map[string]struct {
		conf config.Config
		want string
	}{
		"nothing":         {config.Config{Provenance: "none", Sign: "none", MediaTypes: "docker"}, ""},
		"Docker's types":  {config.Config{Provenance: "min", Sign: "none", MediaTypes: "docker"}, "signatures and provenance cannot be combined with --media-types docker: referrers require OCI media types"},
		"legacy, cosign":  {config.Config{Provenance: "none", Sign: "cosign", SignFormat: "both"}, "--sign-format both requires a local key"},
		"args, local key": {config.Config{Provenance: "none", Sign: "x", SignFormat: "bundle", SignArgs: []string{"--key=x"}}, "--sign-arg requires --sign cosign"},
		"good":            {config.Config{Provenance: "max", Sign: "x", SignFormat: "both"}, ""},
	} {
		got := ""
		if err := SetAttestations(&publish.Publisher{}, &c.conf, "v1", environ(nil)); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// The builder, the run and the git reference come from the CI system. A reference of another
// commit than the one that is checked out does not count.
func TestOfCI(t *testing.T) {
	github := map[string]string{
		"GITHUB_SERVER_URL": "https://github.example", "GITHUB_WORKFLOW_REF": "acme/app/.github/workflows/push.yml@refs/tags/v1",
		"GITHUB_RUN_ID": "7", "GITHUB_REPOSITORY": "acme/app", "GITHUB_RUN_ATTEMPT": "2", "GITHUB_REF": "refs/tags/v1", "GITHUB_SHA": "c1",
	}
	gitlab := map[string]string{
		"CI_PROJECT_URL": "https://gitlab.example/acme/app", "CI_RUNNER_ID": "3", "CI_JOB_URL": "https://gitlab.example/acme/app/-/jobs/9",
		"CI_COMMIT_TAG": "v1", "CI_COMMIT_SHA": "c1",
	}
	branch := map[string]string{"CI_COMMIT_BRANCH": "main", "CI_COMMIT_SHA": "c1"}
	for name, c := range map[string]struct {
		env                   map[string]string
		vars                  build.Vars
		builder, run, gitName string
	}{
		"GitHub":         {github, build.Vars{Commit: "c1", Branch: "x"}, "https://github.example/acme/app/.github/workflows/push.yml@refs/tags/v1", "https://github.example/acme/app/actions/runs/7/attempts/2", "refs/tags/v1"},
		"another commit": {github, build.Vars{Commit: "c2", Branch: "x"}, "https://github.example/acme/app/.github/workflows/push.yml@refs/tags/v1", "https://github.example/acme/app/actions/runs/7/attempts/2", "refs/heads/x"},
		"GitLab":         {gitlab, build.Vars{Commit: "c1"}, "https://gitlab.example/acme/app/-/runners/3", "https://gitlab.example/acme/app/-/jobs/9", "refs/tags/v1"},
		"a branch":       {branch, build.Vars{Commit: "c1"}, attest.LocalBuilder, "", "refs/heads/main"},
		"a tag of git":   {nil, build.Vars{Commit: "c1", Tag: "v2", Branch: "x"}, attest.LocalBuilder, "", "refs/tags/v2"},
		"nothing":        {nil, build.Vars{Commit: "c1"}, attest.LocalBuilder, "", ""},
	} {
		if got := builderOf(environ(c.env)); got != c.builder {
			t.Errorf("%s: builder %s, want %s", name, got, c.builder)
		}
		if got := invocationOf(environ(c.env)); got != c.run {
			t.Errorf("%s: run %s, want %s", name, got, c.run)
		}
		if got := refOf(c.vars, environ(c.env)); got != c.gitName {
			t.Errorf("%s: reference %s, want %s", name, got, c.gitName)
		}
	}
}

// In a reusable workflow the builder is that workflow, which the ID token names, and not its
// caller. What the token service does wrong is a warning, and the caller stands.
func TestBuilderOfReusableWorkflow(t *testing.T) {
	t.Parallel()
	const caller, own = "acme/app/.github/workflows/push.yml@refs/tags/v1", "acme/ci/.github/workflows/release.yml@refs/heads/main"
	token := func(claims string) string {
		return `{"value": "e30.` + base64.RawURLEncoding.EncodeToString([]byte(claims)) + `.c2ln"}`
	}
	for name, c := range map[string]struct {
		status           int
		answer           string
		want, wantLogged string
	}{
		"a reusable workflow": {200, token(`{"job_workflow_ref": "` + own + `"}`), own, ""},
		"no claim":            {200, token(`{}`), caller, "names no workflow"},
		"no token":            {200, `{}`, caller, "names no workflow"},
		"a login page":        {200, `<html>`, caller, "is not JSON"},
		"refused":             {403, ``, caller, "403 Forbidden"},
	} {
		asked := 0
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked++
			if r.Header.Get("Authorization") != "Bearer t0ken" {
				t.Errorf("%s: authorization %q", name, r.Header.Get("Authorization"))
			}
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.answer)
		}))
		var log bytes.Buffer
		p := &Planner{Log: slog.New(slog.NewTextHandler(&log, nil)), Getenv: environ(map[string]string{
			"ACTIONS_ID_TOKEN_REQUEST_URL": server.URL + "/token?api-version=2.0", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "t0ken",
			"GITHUB_SERVER_URL": "https://github.example", "GITHUB_WORKFLOW_REF": caller,
		})}
		for range 2 { // asks once
			if got := p.builderID(t.Context()); got != "https://github.example/"+c.want {
				t.Errorf("%s: %s", name, got)
			}
		}
		if c.wantLogged == "" && log.Len() > 0 || !strings.Contains(log.String(), c.wantLogged) || strings.Contains(log.String(), "t0ken") || asked != 1 {
			t.Errorf("%s: asked %d times, logged %s", name, asked, log.String())
		}
		server.Close()
	}
}
