package tailrace

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff bounds the waits between attempts. A wait is anywhere between nothing and a bound that doubles from Base up to
// Cap (full jitter), so that many clients of one restarted server do not return at the same moment.
type Backoff struct {
	// Base bounds the first wait.
	Base time.Duration
	// Cap is what no wait exceeds.
	Cap time.Duration
	// Random gives a number in [0, 1); math/rand when nil.
	Random func() float64
}

// delay tells the wait before an attempt; 0 is the first retry.
func (b Backoff) delay(attempt int) time.Duration {
	bound := b.Base
	for range attempt {
		if bound >= b.Cap {
			break
		}
		bound *= 2
	}
	random := b.Random
	if random == nil {
		random = rand.Float64
	}
	return time.Duration(random() * float64(min(bound, b.Cap)))
}

// pause waits, unless the context ends first.
func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
