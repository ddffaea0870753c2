package registry_test

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/regtest"
	"github.com/mabuild/mabuild/manifest"
	"github.com/mabuild/mabuild/manifest/registry"
)

// restated starts a proxy in front of r that gives all content another digest.
func restated(t *testing.T, r *regtest.Registry, digest func(body []byte) string, more func(*http.Response)) string {
	t.Helper()
	to := &url.URL{Scheme: "http", Host: r.Judge()}
	proxy := httputil.NewSingleHostReverseProxy(to)
	transport := &http.Transport{}
	proxy.Transport = transport
	proxy.ModifyResponse = func(resp *http.Response) error {
		if resp.Header.Get("Docker-Content-Digest") == "" || resp.StatusCode >= 300 {
			return nil
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		resp.Body = io.NopCloser(bytes.NewReader(body))
		if len(body) == 0 { // HEAD and PUT only need some valid digest
			body = []byte(resp.Header.Get("Docker-Content-Digest"))
		}
		resp.Header.Set("Docker-Content-Digest", digest(body))
		if more != nil {
			more(resp)
		}
		return nil
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
	})
	return server.Listener.Addr().String()
}

func sha512Of(body []byte) string { return fmt.Sprintf("sha512:%x", sha512.Sum512(body)) }

// A registry may use another digest algorithm. What is written, compared and verified is
// the requested sha256.
func TestRegistryOfAnotherAlgorithm(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	idx := regtest.RandomIndex(t, 300, 1, "amd64", "arm64")
	for name, digest := range map[string]func([]byte) string{
		"sha512": sha512Of,
		"blake3": func([]byte) string { return "blake3:" + strings.Repeat("ab", 32) },
		"sha384": func([]byte) string { return "sha384:" + strings.Repeat("ab", 48) },
	} {
		for _, status := range []int{http.StatusCreated, http.StatusOK} {
			repo := fmt.Sprintf("%s%d", name, status)
			t.Run(repo, func(t *testing.T) {
				host := restated(t, r, digest, func(resp *http.Response) {
					if resp.Request.Method == http.MethodPut {
						resp.StatusCode = status
					}
				})
				ref := host + "/" + repo + ":v1"
				put(t, client(t), ref, idx)
				verifyTag(t, r, repo+":v1", idx)
				want := must(manifest.Describe(idx))(t)
				d := must(client(t).Resolve(t.Context(), ref))(t)
				if d.Digest != want.Digest || d.Size != want.Size {
					t.Errorf("resolved %v, want %v", d, want)
				}
				got := must(client(t).Get(t.Context(), ref))(t)
				if digestOf(t, got) != want.Digest {
					t.Errorf("got %s", digestOf(t, got))
				}
				for _, child := range must(got.(v1.ImageIndex).IndexManifest())(t).Manifests {
					at := host + "/" + repo + "@" + child.Digest.String()
					if d := must(client(t).Resolve(t.Context(), at))(t); d.Digest != child.Digest {
						t.Errorf("resolved %s", d.Digest)
					}
					img := must(got.(v1.ImageIndex).Image(child.Digest))(t)
					_ = must(img.RawConfigFile())(t)
				}
				r.Reset()
				put(t, client(t), ref, idx) // is there
				verifyTag(t, r, repo+":v1", idx)
			})
		}
	}
}

// A wrong sha512 is refused, and so is content that does not have the requested sha256.
func TestWrongDigestOfAnotherAlgorithm(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	img := regtest.Image(t, "amd64", 100, 1)
	put(t, client(t), r.Host+"/app:v1", img)
	host := restated(t, r, func([]byte) string { return sha512Of([]byte("else")) }, nil)
	if _, err := client(t).Get(t.Context(), host+"/app:v1"); !errors.Is(err, manifest.ErrMismatch) {
		t.Errorf("a wrong sha512: %v", err)
	}
	host = restated(t, r, sha512Of, func(resp *http.Response) {
		if strings.Contains(resp.Request.URL.Path, "/manifests/") && resp.Request.Method == http.MethodGet {
			body, _ := io.ReadAll(resp.Body)
			body = append(body, ' ')
			resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			resp.Header.Set("Content-Length", fmt.Sprint(len(body)))
			resp.Header.Set("Docker-Content-Digest", sha512Of(body))
		}
	})
	if _, err := client(t).Get(t.Context(), host+"/app@"+digestOf(t, img).String()); !errors.Is(err, manifest.ErrMismatch) {
		t.Errorf("other content: %v", err)
	}
}

// If the response to a PUT is lost, a HEAD finds whether the content arrived.
func TestLostAnswerOfAnotherAlgorithm(t *testing.T) {
	t.Parallel()
	r := regtest.Start(t, regtest.Options{})
	img := regtest.Image(t, "amd64", 100, 1)
	var puts atomic.Int32
	host := restated(t, r, sha512Of, func(resp *http.Response) {
		if resp.Request.Method == http.MethodPut && strings.Contains(resp.Request.URL.Path, "/manifests/") {
			puts.Add(1)
			resp.StatusCode = http.StatusBadGateway
		}
	})
	if err := (&registry.Client{Keychain: login{}, Sleep: (&naps{}).sleep}).Put(t.Context(), host+"/app:v1", img); err != nil || puts.Load() != 1 {
		t.Errorf("%d PUTs, %v", puts.Load(), err)
	}
}
