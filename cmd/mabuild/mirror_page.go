package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/mabuild/mabuild/internal/mirror"
	"github.com/mabuild/mabuild/internal/serve"
	"github.com/mabuild/mabuild/internal/text"
	"github.com/mabuild/mabuild/internal/web"
)

// pageRefresh is how often a browser loads the pages of a mirror again.
const pageRefresh = 30 * time.Second

// serveStatus serves the pages of a mirror, /status.json, /metrics and /healthz at addr
// until ctx ends or stop is called; stop waits for the server to end. Only requests to
// names that [serve.Policy] permits, or to hosts, are answered, which protects against DNS
// rebinding. If addr is "", it does nothing.
func serveStatus(ctx context.Context, a *app, o *mirror.Observer, addr string, hosts []string) (stop func(), err error) {
	if addr == "" {
		return func() {}, nil
	}
	if hosts, err = serve.ParseHosts(hosts); err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, usage("for example --listen 127.0.0.1:8080", "--listen %s: %s", addr, errors.Unwrap(err))
	}
	logger := slog.NewLogLogger(a.log.Handler(), slog.LevelWarn)
	policy := serve.Policy{Hosts: hosts, Flag: "--listen-host", Log: logger}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := serve.Serve(ctx, l, policy.Protect(statusHandler(o, time.Now)), logger); err != nil {
			a.log.Warn("--listen: " + err.Error())
		}
	}()
	a.log.Info("listening", "address", l.Addr().String())
	return func() { cancel(); <-ended }, nil
}

// statusHandler answers the requests of serveStatus.
func statusHandler(o *mirror.Observer, now func() time.Time) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }) //nolint:errcheck // the client is gone
	mux.Handle("GET /metrics", o.Metrics)
	mux.HandleFunc("GET /status.json", func(w http.ResponseWriter, _ *http.Request) {
		var b bytes.Buffer
		if err := writeJSON(&b, o.Status(now())); err != nil {
			panic(err) // only texts, numbers and times are written
		}
		web.Protect(w.Header())
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, plainLines(b.String())) // the client may be gone
	})
	mux.Handle("/{$}", web.Handler(func(*http.Request) (int, web.Page) { return http.StatusOK, mirrorPage(o.Status(now())) }))
	mux.Handle("/entry", web.Handler(func(r *http.Request) (int, web.Page) { return entryPage(o.Status(now()), r.URL.Query().Get("name")) }))
	return mux
}

// mirrorPage returns the page of all entries.
func mirrorPage(s mirror.Status) web.Page {
	return web.Page{
		Kind: web.Mirror, Title: "Mirror", Path: []web.Link{{Text: "Mirror"}}, Refresh: pageRefresh,
		Footer: refreshed(s), Data: s,
	}
}

// refreshed says how old a page of a mirror can be.
func refreshed(s mirror.Status) string {
	return fmt.Sprintf("As of %s. The page loads again every %d s.", s.Time.Format("2006-01-02 15:04:05 UTC"), pageRefresh/time.Second)
}

// An entryView is the data of the page of an entry.
type entryView struct {
	Time   time.Time
	Entry  mirror.EntryStatus
	Matrix web.Matrix
}

// entryPage returns the page of one entry. Links have its name without credentials.
func entryPage(s mirror.Status, name string) (int, web.Page) {
	path := []web.Link{{Text: "Mirror", To: "/"}, {Text: name}}
	at := slices.IndexFunc(s.Entries, func(e mirror.EntryStatus) bool { return text.Redact(e.Name) == text.Redact(name) })
	if at < 0 {
		page := web.Say("Not found", "The mirror has no entry of this name. It may have been removed from the file.")
		page.Path = path[:1]
		return http.StatusNotFound, page
	}
	v := entryView{Time: s.Time, Entry: s.Entries[at]}
	if v.Entry.Last != nil {
		v.Matrix = imageMatrix(v.Entry.Last.Images)
	}
	return http.StatusOK, web.Page{Kind: web.Entry, Title: name, Path: path, Refresh: pageRefresh, Footer: refreshed(s), Data: v}
}

// imageMatrix returns the images of a run and their platforms. An image whose platforms
// were not read has a question mark for each.
func imageMatrix(images []mirror.Result) web.Matrix {
	rows, cells := make([]web.Row, len(images)), make([]map[string]web.Cell, len(images))
	for i, one := range images {
		row := web.Row{Name: web.Link{Text: cmp.Or(one.Target, one.Source)}, Digest: one.Digest, State: one.Status}
		if one.Target != "" {
			row.Notes = append(row.Notes, "from "+one.Source)
		}
		if one.Bytes > 0 {
			row.Notes = append(row.Notes, text.Size(one.Bytes)+" sent")
		}
		why := strings.TrimPrefix(one.Why, one.Target+": ")
		switch {
		case one.Status == mirror.Failed:
			row.Problem = why
		case why != "":
			row.Notes = append(row.Notes, why)
		}
		if one.Backup != "" {
			row.Notes = append(row.Notes, "before: "+one.Backup)
		}
		cells[i] = map[string]web.Cell{}
		for _, p := range one.Platforms {
			cells[i][p] = web.Cell{Text: "yes"}
		}
		for _, p := range one.Absent {
			cells[i][p] = web.Cell{Text: "missing"}
		}
		row.Unread = len(one.Platforms) == 0
		rows[i] = row
	}
	return web.Fill("Image", rows, cells)
}
