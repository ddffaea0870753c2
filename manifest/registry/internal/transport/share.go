package transport

import (
	"context"
	"errors"
	"fmt"
)

// Share calls do, which is the Do or Ensure of a [once.Flight] or [once.Memo]. If ctx
// ends while the caller waits for another caller's work, the error is that of [stopped].
// do returns the cause of ctx itself in that case, which is compared by identity: an
// equal error of the work is left as it is.
func Share[K comparable, V any](ctx context.Context, do func(context.Context, K, func() (V, error)) (V, error), key K, work func() (V, error)) (V, error) {
	v, err := do(ctx, key, work)
	if err != nil && ctx.Err() != nil && err == context.Cause(ctx) { //nolint:errorlint // by identity
		err = stopped(ctx)
	}
	return v, err
}

// ended reports whether err is the end of a context.
func ended(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// stopped returns the error of ctx with its cause. A cause that is an *Error is left out:
// it belongs to another request of an errgroup, which reports it itself.
func stopped(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(err, cause) || As(cause) != nil {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}
