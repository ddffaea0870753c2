package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/mabuild/mabuild/internal/once"
)

// share is the Do of a [once.Flight] or [once.Memo], for a caller whose ctx may end while it
// waits: [stopped] says why then.
func share[K comparable, V any](ctx context.Context, do func(context.Context, K, func() (V, error)) (V, error), key K, work func() (V, error)) (V, error) {
	v, err := do(ctx, key, work)
	if err != nil && ctx.Err() != nil && err == context.Cause(ctx) { //nolint:errorlint // the very error that a waiter gets
		err = stopped(ctx)
	}
	return v, err
}

// onceARun runs work unless it succeeded for key before in this run.
func onceARun(ctx context.Context, m *once.Memo[contentKey, struct{}], key contentKey, work func() error) error {
	_, err := share(ctx, m.Ensure, key, func() (struct{}, error) { return struct{}{}, work() })
	return err
}

// ended reports whether err came of a context that ended.
func ended(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// stopped returns why ctx ended, as a context's error with its cause. The cause
// may be what another request of the same work ended with; that is not repeated.
func stopped(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(err, cause) || asError(cause) != nil {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}
