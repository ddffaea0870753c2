package mirror

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// A meter counts what is sent for one image.
type meter struct{ bytes atomic.Int64 }

type meterKey struct{}

func withMeter(ctx context.Context, m *meter) context.Context {
	return context.WithValue(ctx, meterKey{}, m)
}

// Metered returns a handler that counts, beside what inner does, the bytes that
// are sent for each image: those of the records "transfer" of an upload that is
// done (bytes == size), as the registry client writes them at its lowest level.
func Metered(inner slog.Handler) slog.Handler { return metered{inner} }

type metered struct{ slog.Handler }

func (h metered) Enabled(ctx context.Context, l slog.Level) bool {
	return meterOf(ctx) != nil || h.Handler.Enabled(ctx, l)
}

func meterOf(ctx context.Context) *meter {
	m, _ := ctx.Value(meterKey{}).(*meter)
	return m
}

func (h metered) Handle(ctx context.Context, r slog.Record) error {
	if m := meterOf(ctx); m != nil && r.Message == "transfer" {
		m.count(r)
	}
	if !h.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (m *meter) count(r slog.Record) {
	var op string
	var bytes, size int64
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
	if op == "upload" && bytes == size {
		m.bytes.Add(bytes)
	}
}

func (h metered) WithAttrs(attrs []slog.Attr) slog.Handler {
	return metered{h.Handler.WithAttrs(attrs)}
}
func (h metered) WithGroup(name string) slog.Handler { return metered{h.Handler.WithGroup(name)} }
