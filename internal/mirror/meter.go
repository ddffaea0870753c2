package mirror

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// meterKey is the key of the meter in a context. A meter is the number of bytes that are
// sent for one image. The registry client has no notion of an image of a mirror, so the
// meter goes with the context, and the bytes come back as log records.
type meterKey struct{}

// withMeter returns a context whose uploads are added to meter.
func withMeter(ctx context.Context, meter *atomic.Int64) context.Context {
	return context.WithValue(ctx, meterKey{}, meter)
}

// Metered returns a handler that counts the bytes that are sent for each image, besides
// what inner does. It counts the records "transfer" of complete uploads (bytes equals
// size), which the registry client logs at its lowest level. The logger of the client
// must use it, or the Bytes of copies to registries are 0.
func Metered(inner slog.Handler) slog.Handler { return metered{inner} }

type metered struct{ slog.Handler }

// Enabled reports true for a context with a meter at every level: the records to count
// are below the level of most handlers.
func (h metered) Enabled(ctx context.Context, l slog.Level) bool {
	return meterOf(ctx) != nil || h.Handler.Enabled(ctx, l)
}

// meterOf returns the meter of a context, or nil.
func meterOf(ctx context.Context) *atomic.Int64 {
	meter, _ := ctx.Value(meterKey{}).(*atomic.Int64)
	return meter
}

// Handle counts a record and passes it on if inner handles its level.
func (h metered) Handle(ctx context.Context, r slog.Record) error {
	if meter := meterOf(ctx); meter != nil && r.Message == "transfer" {
		meter.Add(uploaded(r))
	}
	if !h.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// uploaded returns the bytes of a record of a complete upload, else 0. The attributes must
// be of the record itself: those that were added to the logger are not seen.
func uploaded(r slog.Record) (bytes int64) {
	var op string
	var size int64
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "op":
			op = a.Value.String()
		case "bytes":
			bytes = a.Value.Int64()
		case "size":
			size = a.Value.Int64()
		}
		return true
	})
	if op != "upload" || bytes != size {
		return 0
	}
	return bytes
}

// WithAttrs returns a handler that still counts.
func (h metered) WithAttrs(attrs []slog.Attr) slog.Handler {
	return metered{h.Handler.WithAttrs(attrs)}
}
func (h metered) WithGroup(name string) slog.Handler { return metered{h.Handler.WithGroup(name)} }
