package build

import (
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
)

// Fifty who ask while a listing is taken share the next one: what changed after
// the first began is in theirs.
func TestWalksAreSharedAndNeverOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w walks
		state, taken, hold := "old", 0, make(chan struct{})
		list := func() (string, bool, error) {
			taken++
			seen := state
			if taken == 1 {
				<-hold
			}
			return seen + strconv.Itoa(taken), false, nil
		}
		var wg sync.WaitGroup
		ask := func(want string) {
			wg.Go(func() {
				if got, _, _ := w.share("scope", list); got != want {
					t.Errorf("%s, want %s", got, want)
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
			other, _, _ := w.share("another scope", func() (string, bool, error) { return "other", true, nil })
			if other != "other" {
				t.Error(other)
			}
		})
		synctest.Wait()
		close(hold)
		wg.Wait()
		ask("new3")
		wg.Wait()
	})
}
