package serve

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// A request is allowed under the loopback names, the address at which it arrived, and the
// configured names.
func TestHosts(t *testing.T) {
	hosts, err := ParseHosts([]string{"Registry.Local", "203.0.113.7", "[2001:db8::7]", "trailing.example."})
	if err != nil {
		t.Fatal(err)
	}
	p := Policy{Hosts: hosts, Flag: "--host"}
	for _, c := range []struct {
		local, host string
		allowed     bool
	}{
		{"127.0.0.1:5000", "localhost", true},
		{"127.0.0.1:5000", "localhost:5000", true},
		{"127.0.0.1:5000", "LOCALHOST.:5000", true},
		{"127.0.0.1:5000", "app.localhost:5000", true},
		{"127.0.0.1:5000", "127.0.0.1:5000", true},
		{"127.0.0.1:5000", "127.9.9.9", true},
		{"127.0.0.1:5000", "[::1]:5000", true},
		{"127.0.0.1:5000", "[::ffff:127.0.0.1]:5000", true},
		{"10.1.2.3:8080", "10.1.2.3:8080", true}, // a probe of the kubelet, a scrape by the address of the pod
		{"[::ffff:10.1.2.3]:8080", "10.1.2.3:8080", true},
		{"[fd00::3]:8080", "[fd00::3]:8080", true},
		{"[fe80::3%eth0]:8080", "[fe80::3]", true},
		{"10.1.2.3:8080", "10.1.2.4:8080", false},
		{"10.1.2.3:8080", "registry.local:8080", true},
		{"10.1.2.3:8080", "registry.local", true},
		{"10.1.2.3:8080", "trailing.example", true},
		{"10.1.2.3:8080", "203.0.113.7:80", true},
		{"10.1.2.3:8080", "[2001:db8:0::7]:80", true},
		{"127.0.0.1:5000", "evil.example", false},
		{"127.0.0.1:5000", "evil.example:5000", false},
		{"127.0.0.1:5000", "localhost.evil.example", false},
		{"127.0.0.1:5000", "notlocalhost", false},
		{"127.0.0.1:5000", "127.0.0.1.evil.example", false},
		{"127.0.0.1:5000", "x.registry.local", false},
		{"127.0.0.1:5000", "localhost@evil.example", false},
		{"127.0.0.1:5000", "localhost/x", false},
		{"127.0.0.1:5000", ":5000", false},
		{"127.0.0.1:5000", "::1:", false},
		{"127.0.0.1:5000", "::1", false},
		{"127.0.0.1:5000", "", false},
		{"", "10.1.2.3", false},
	} {
		ctx := t.Context()
		if c.local != "" {
			addr, err := net.ResolveTCPAddr("tcp", c.local)
			if err != nil {
				t.Fatal(err)
			}
			ctx = context.WithValue(ctx, http.LocalAddrContextKey, net.Addr(addr))
		}
		if p.allowed(ctx, c.host) != c.allowed {
			t.Errorf("%q at %s: %v", c.host, c.local, !c.allowed)
		}
	}
}

func TestParseHosts(t *testing.T) {
	for _, name := range []string{"", "http://registry.local", "registry.local:5000", "registry.local/x", "*.local", "a b", "-x", strings.Repeat("a.", 130)} {
		if hosts, err := ParseHosts([]string{name}); err == nil {
			t.Errorf("%q is %q", name, hosts)
		}
	}
}

// Pages of other origins cannot send requests of any kind.
func TestOrigins(t *testing.T) {
	h := Policy{Hosts: []string{"registry.local"}, Flag: "--host"}.Protect(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }))
	for _, c := range []struct {
		header http.Header
		status int
	}{
		{http.Header{}, 204},
		{http.Header{"Origin": {"http://localhost:5000"}}, 204},
		{http.Header{"Origin": {"http://127.0.0.1:5000"}}, 204},
		{http.Header{"Origin": {"https://registry.local"}}, 204},
		{http.Header{"Origin": {"https://registry.local"}, "Sec-Fetch-Site": {"cross-site"}}, 204},
		{http.Header{"Sec-Fetch-Site": {"same-origin"}}, 204},
		{http.Header{"Sec-Fetch-Site": {"none"}}, 204},
		{http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403},
		{http.Header{"Origin": {"https://evil.example"}}, 403},
		{http.Header{"Origin": {"https://evil.example"}, "Sec-Fetch-Site": {"same-origin"}}, 403},
		{http.Header{"Origin": {"http://localhost", "https://evil.example"}}, 403},
		{http.Header{"Origin": {"null"}}, 403},
		{http.Header{"Origin": {""}}, 403},
		{http.Header{"Origin": {"localhost"}}, 403},
	} {
		for _, method := range []string{"GET", "POST", "DELETE", "OPTIONS"} {
			r := httptest.NewRequestWithContext(t.Context(), method, "http://localhost:5000/v2/", nil)
			r.Header = c.header
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != c.status || w.Code == 403 && !strings.Contains(w.Body.String(), "--host NAME") {
				t.Errorf("%s %v: %d %s", method, c.header, w.Code, w.Body)
			}
		}
	}
}

// Any allowed text is one of few hosts, even in the interpretation of a browser.
func FuzzHost(f *testing.F) {
	for _, text := range []string{"localhost:5000", "[::1]", "evil.example", "localhost@evil.example", "localhost:80:80", "::1:", "%6cocalhost", "localhost\x00.evil.example"} {
		f.Add(text)
	}
	p := Policy{}
	f.Fuzz(func(t *testing.T, text string) {
		if !p.allowed(t.Context(), text) {
			return
		}
		u, err := url.Parse("http://" + text + "/")
		if err != nil || u.User != nil {
			t.Fatalf("%q is allowed but is not a host", text)
		}
		host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
		if ip := net.ParseIP(strings.Split(host, "%")[0]); host != "localhost" && !strings.HasSuffix(host, ".localhost") && (ip == nil || !ip.IsLoopback()) {
			t.Errorf("%q is allowed", text)
		}
	})
}
