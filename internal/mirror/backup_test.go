package mirror

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/mabuild/mabuild/internal/places"
	"github.com/mabuild/mabuild/manifest"
)

// slow says what a reference names when it is told to.
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

// A tag that names something else keeps nothing, whoever asks while that is found out.
func TestBackupsOfOneNameAtOnce(t *testing.T) {
	one, other := v1.Hash{Algorithm: "sha256", Hex: "1"}, v1.Hash{Algorithm: "sha256", Hex: "2"}
	for _, there := range []v1.Hash{one, other} {
		store := &slow{there: there, began: make(chan struct{}), tell: make(chan struct{})}
		at := &round{Runner: &Runner{Store: store}}
		answers := make(chan bool, 2)
		ask := func() {
			m := &move{round: at, now: v1.Descriptor{Digest: one}}
			free, err := m.free(t.Context(), places.Remote(manifest.CutReference("r/app:old")))
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
			t.Errorf("free: %t, before anybody knows what it names", free)
			answers <- free
		case <-time.After(20 * time.Millisecond): // for one that does not wait to show itself
		}
		close(store.tell)
		for range 2 {
			if free := <-answers; free != (there == one) {
				t.Errorf("free: %t, where it names %s", free, there.Hex)
			}
		}
		if n := store.asked.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
	}
}
