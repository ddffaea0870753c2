package unchanged

import (
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
)

// Callers that ask while a listing is taken share the next listing, which includes all
// changes since the first one began.
func TestListingsAreSharedAndNeverOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newBatch()
		state, taken, hold := "old", 0, make(chan struct{})
		list := func() (listing, error) {
			taken++
			seen := state
			if taken == 1 {
				<-hold
			}
			return listing{digest: seen + strconv.Itoa(taken)}, nil
		}
		var wg sync.WaitGroup
		ask := func(want string) {
			wg.Go(func() {
				if got, _ := w.share(list); got.digest != want {
					t.Errorf("%s, want %s", got.digest, want)
				}
			})
		}
		ask("old1")
		synctest.Wait()
		state = "new"
		for range 50 {
			ask("new2")
		}
		wg.Go(func() {
			other, _ := newBatch().share(func() (listing, error) { return listing{digest: "other"}, nil })
			if other.digest != "other" {
				t.Error(other.digest)
			}
		})
		synctest.Wait()
		close(hold)
		wg.Wait()
		ask("new3")
		wg.Wait()
	})
}
