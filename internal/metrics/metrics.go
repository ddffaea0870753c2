// Package metrics counts what a server does and answers with the figures in the text format of
// Prometheus (prometheus.io/docs/instrumenting/exposition_formats).
package metrics

import (
	"net/http"
	"slices"
	"strings"

	"github.com/VictoriaMetrics/metrics"
)

// A Set has the metrics of one server, without those of the Go runtime. Its methods may be
// called at once. A metric is made by its first use and is 0 then. Labels are names, each with
// its value after it.
type Set struct{ set *metrics.Set }

// New returns an empty set.
func New() Set {
	metrics.ExposeMetadata(true)
	return Set{metrics.NewSet()}
}

// Counter returns the counter with these labels.
func (s Set) Counter(name string, labels ...string) *metrics.Counter {
	return s.set.GetOrCreateCounter(series(name, labels))
}

// Gauge returns the gauge with these labels.
func (s Set) Gauge(name string, labels ...string) *metrics.Gauge {
	return s.set.GetOrCreateGauge(series(name, labels), nil)
}

// Histogram returns the histogram with these upper bounds of its buckets.
func (s Set) Histogram(name string, bounds ...float64) *metrics.PrometheusHistogram {
	return s.set.GetOrCreatePrometheusHistogramExt(name, bounds)
}

// Remove removes the metric with these labels, if it is there.
func (s Set) Remove(name string, labels ...string) {
	s.set.UnregisterMetric(series(name, labels))
}

// ServeHTTP writes all metrics, sorted by their names.
func (s Set) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	s.set.WritePrometheus(w)
}

// escape writes the value of a label.
var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// series returns a name with labels as Prometheus writes it.
func series(name string, labels []string) string {
	if len(labels) == 0 {
		return name
	}
	var pairs []string
	for pair := range slices.Chunk(labels, 2) {
		pairs = append(pairs, pair[0]+`="`+escape.Replace(strings.ToValidUTF8(pair[1], "\ufffd"))+`"`)
	}
	return name + "{" + strings.Join(pairs, ",") + "}"
}
