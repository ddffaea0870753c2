package mirror

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/imageref"
	"github.com/mabuild/mabuild/internal/places"
)

// slow is a store that resolves a reference only when the test allows it.
type slow struct {
	Store
	there v1.Hash
	asked atomic.Int32
	began chan struct{}
	tell  chan struct{}
}

func (s *slow) Resolve(context.Context, string) (v1.Descriptor, error) {
	s.asked.Add(1)
	close(s.began)
	<-s.tell
	return v1.Descriptor{Digest: s.there}, nil
}

// Callers that ask at the same time whether a backup tag is free share one request, and all
// get its result.
func TestBackupsOfOneNameAtOnce(t *testing.T) {
	one, other := v1.Hash{Algorithm: "sha256", Hex: "1"}, v1.Hash{Algorithm: "sha256", Hex: "2"}
	for _, there := range []v1.Hash{one, other} {
		store := &slow{there: there, began: make(chan struct{}), tell: make(chan struct{})}
		at := &round{Runner: &Runner{Store: store}}
		answers := make(chan bool, 2)
		ask := func() {
			m := &move{round: at, now: v1.Descriptor{Digest: one}}
			free, err := m.free(t.Context(), places.Remote(imageref.Cut("r/app:old")))
			if err != nil {
				t.Error(err)
			}
			answers <- free
		}
		go ask()
		<-store.began
		go ask()
		select {
		case free := <-answers:
			t.Errorf("free: %t, before the tag is resolved", free)
			answers <- free
		case <-time.After(20 * time.Millisecond): // time for a caller that does not wait
		}
		close(store.tell)
		for range 2 {
			if free := <-answers; free != (there == one) {
				t.Errorf("free: %t, but the tag names %s", free, there.Hex)
			}
		}
		if n := store.asked.Load(); n != 1 {
			t.Errorf("%d requests", n)
		}
	}
}
