package plan

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/mabuild/mabuild/internal/attest"
)

// This file says who builds, for the provenance. Anybody can set the variables behind it; a
// signature with the identity of the job proves more.

// builderID returns the URI of the builder in the CI system: the workflow at GitHub, the runner
// at GitLab. A job of a reusable workflow at GitHub gets the caller's workflow in its variables,
// so the job's ID token is asked for its own, if the job may have one.
func (p *Planner) builderID(ctx context.Context) string {
	p.builder.Do(func() {
		p.builderIs = builderOf(p.Getenv)
		at, token := p.Getenv("ACTIONS_ID_TOKEN_REQUEST_URL"), p.Getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
		if at == "" || token == "" || p.Getenv("GITHUB_WORKFLOW_REF") == "" {
			return
		}
		workflow, err := workflowOf(ctx, at, token)
		if err != nil {
			p.Log.WarnContext(ctx, "the workflow is taken from GITHUB_WORKFLOW_REF", "err", err)
			return
		}
		p.builderIs = githubURL(p.Getenv) + "/" + workflow
	})
	return p.builderIs
}

// builderOf returns the URI of the builder by the variables of the CI system.
func builderOf(getenv func(string) string) string {
	switch {
	case getenv("GITHUB_WORKFLOW_REF") != "":
		return githubURL(getenv) + "/" + getenv("GITHUB_WORKFLOW_REF")
	case getenv("CI_PROJECT_URL") != "" && getenv("CI_RUNNER_ID") != "":
		return getenv("CI_PROJECT_URL") + "/-/runners/" + getenv("CI_RUNNER_ID")
	}
	return attest.LocalBuilder
}

// githubURL returns the address of the GitHub server of a job.
func githubURL(getenv func(string) string) string {
	return cmp.Or(getenv("GITHUB_SERVER_URL"), "https://github.com")
}

// The bounds of the request for an ID token.
const (
	maxToken     = 64 << 10 // bytes of the answer
	tokenTimeout = 10 * time.Second
)

// workflowOf returns the workflow that the ID token of a job at GitHub names, with its git
// reference (GitHub documentation, OpenID Connect reference, job_workflow_ref). The token comes
// from the address that GitHub gave the job, so its signature is not checked.
func workflowOf(ctx context.Context, at, bearer string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return "", errors.New("ACTIONS_ID_TOKEN_REQUEST_URL is not a URL")
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
			err = wrapped.Err // without the address, which is long
		}
		return "", fmt.Errorf("ID token: %s: %w", req.URL.Host, err)
	}
	defer resp.Body.Close() //nolint:errcheck // was opened to read
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("ID token: %s from %s", resp.Status, req.URL.Host)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxToken))
	if err != nil {
		return "", fmt.Errorf("ID token: %w", err)
	}
	var answer struct {
		Value string `json:"value"`
	}
	var claims struct {
		Workflow string `json:"job_workflow_ref"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return "", fmt.Errorf("ID token: the answer of %s is not JSON", req.URL.Host)
	}
	// RFC 7519, section 3: header, claims and signature.
	if parts := strings.Split(answer.Value, "."); len(parts) == 3 {
		if text, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil {
			_ = json.Unmarshal(text, &claims) // without claims there is no workflow
		}
	}
	if claims.Workflow == "" {
		return "", fmt.Errorf("ID token: the token of %s names no workflow", req.URL.Host)
	}
	return claims.Workflow, nil
}
