package transport

import (
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/mabuild/mabuild/internal/text"
)

// logRequest logs one request at debug level. The text has no secrets, so that a user can
// paste it into a bug report.
func (t *Transport) logRequest(req *http.Request, resp *http.Response, err error, took time.Duration) {
	ctx := req.Context()
	if !t.Log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", req.Method),
		slog.String("url", redact(req.URL)),
		slog.Duration("duration", took.Round(time.Microsecond)),
	}
	if resp != nil {
		attrs = append(attrs, slog.Int("status", resp.StatusCode))
	}
	if err != nil {
		attrs = append(attrs, slog.String("err", Clean(err.Error())))
	}
	t.Log.LogAttrs(ctx, slog.LevelDebug, "request", attrs...)
}

// redact returns u without what may be secret: user, fragment, and every query parameter
// that the specifications do not define, since signed URLs have their signature there.
func redact(u *url.URL) string {
	plain := []string{"digest", "mount", "from", "n", "last", "scope", "service", "artifactType", "ns"}
	kept := url.Values{}
	hidden := false
	for key, values := range u.Query() {
		if slices.Contains(plain, key) {
			kept[key] = values
		} else {
			hidden = true
		}
	}
	query := kept.Encode()
	if hidden {
		query = strings.TrimPrefix(query+"&…", "&")
	}
	text := u.Scheme + "://" + u.Host + u.EscapedPath()
	if query != "" {
		text += "?" + query
	}
	return Clean(text)
}

// maxText bounds a registry's text in an error, in bytes.
const maxText = 512

// Clean makes text from outside printable on one line of a terminal: a registry could
// otherwise send control sequences.
func Clean(s string) string { return text.Line(s, maxText) }
