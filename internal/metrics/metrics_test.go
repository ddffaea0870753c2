package metrics

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestSet(t *testing.T) {
	t.Parallel()
	s := New()
	s.Counter("copied_total", "entry", "a", "status", "ok").Add(2)
	s.Counter("copied_total", "entry", "a", "status", "ok").Inc()
	s.Counter("copied_total", "entry", "gone", "status", "ok")
	s.Counter("copied_total", "entry", "<\"\\\n\xff}", "status", "ok").Inc()
	s.Gauge("left").Set(1.5)
	s.Gauge("time").Set(1790000000)
	s.Histogram("seconds", 0.5, 2).Update(1)
	s.Remove("copied_total", "entry", "gone", "status", "ok")
	s.Remove("never")
	New().Counter("other").Inc()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	want := `# HELP copied_total
# TYPE copied_total counter
copied_total{entry="<\"\\\n�}",status="ok"} 1
copied_total{entry="a",status="ok"} 3
# HELP left
# TYPE left gauge
left 1.5
# HELP seconds
# TYPE seconds histogram
seconds_bucket{le="0.5"} 0
seconds_bucket{le="2"} 1
seconds_bucket{le="+Inf"} 1
seconds_sum 1
seconds_count 1
# HELP time
# TYPE time gauge
time 1790000000
`
	if got := w.Body.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
