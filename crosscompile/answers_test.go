package crosscompile

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// Who is told to end takes nobody along: another that waits for the same answer asks
// itself. What was answered is kept, and a failure is not.
func TestAnswersOutliveWhoAsked(t *testing.T) {
	var a answers[string]
	first, stop := context.WithCancelCause(t.Context())
	began := make(chan struct{})
	ended := errors.New("interrupted")
	done := make(chan error, 2)
	go func() {
		_, err := a.get(first, "dir", func() (string, error) {
			close(began)
			<-first.Done()
			return "", context.Cause(first)
		})
		done <- err
	}()
	<-began
	impatient, leave := context.WithCancel(t.Context())
	leave()
	if _, err := a.get(impatient, "dir", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if got, err := a.get(t.Context(), "other", func() (string, error) { return "at once", nil }); err != nil || got != "at once" {
		t.Errorf("%q, %v: it waits for the answer to another question", got, err)
	}
	waiting := make(chan string, 1)
	go func() {
		got, err := a.get(t.Context(), "dir", func() (string, error) { return "answer", nil })
		waiting <- got
		done <- err
	}()
	stop(ended)
	if got := <-waiting; got != "answer" {
		t.Errorf("%q", got)
	}
	if err := errors.Join(<-done, <-done); !errors.Is(err, ended) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	if got, err := a.get(t.Context(), "dir", nil); err != nil || got != "answer" {
		t.Errorf("%q, %v", got, err)
	}
	a.forget("dir")
	if _, err := a.get(t.Context(), "dir", func() (string, error) { return "", ended }); !errors.Is(err, ended) {
		t.Errorf("%v", err)
	}
	if got, err := a.get(t.Context(), "dir", func() (string, error) { return "again", nil }); err != nil || got != "again" {
		t.Errorf("%q, %v", got, err)
	}
}
