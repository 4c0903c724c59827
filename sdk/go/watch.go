package tailrace

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	streamv1 "github.com/tailrace/tailrace/sdk/go/gen/stream/v1"
)

// WatchState is where a watch stands.
type WatchState int

const (
	// WatchIdle is a watch that has not begun, or whose reader stopped reading.
	WatchIdle WatchState = iota
	// WatchConnecting is a call under way from which nothing has arrived yet.
	WatchConnecting
	// WatchCatchingUp is when events arrive that were in the topics before this call.
	WatchCatchingUp
	// WatchLive is when what arrives is new.
	WatchLive
	// WatchWaiting is after a call failed; the next begins after a wait.
	WatchWaiting
	// WatchFailed is after a call failed as any other would.
	WatchFailed
)

// WatchOptions says how a watch goes on.
type WatchOptions struct {
	// Backoff bounds the waits between calls; without it they are bounded by 0.5 s to 30 s.
	Backoff Backoff
	// AbandonAfter is how long silence may last before the call is given up for a new one; 0 means 45 s.
	AbandonAfter time.Duration
	// OnState is called with each new state.
	OnState func(WatchState)
}

func (o WatchOptions) withDefaults() WatchOptions {
	if o.Backoff.Base == 0 {
		o.Backoff.Base = 500 * time.Millisecond
	}
	if o.Backoff.Cap == 0 {
		o.Backoff.Cap = 30 * time.Second
	}
	if o.AbandonAfter == 0 {
		o.AbandonAfter = 45 * time.Second
	}
	return o
}

// Watch is a stream of events that outlives its connections: each new call begins after the last cursor, so that a reader
// sees every event once, in order. It does not buffer, filter or deduplicate, and it does not look at the events.
type Watch struct {
	events      streamv1.EventStreamServiceClient
	request     *streamv1.WatchRequest
	options     WatchOptions
	renewsToken bool
	state       WatchState
}

// Cursor is the cursor after the last response that was read; empty before the first.
func (w *Watch) Cursor() string { return w.request.GetCursor() }

// All reads until the context ends, whose error is then the last, or until another call would fail like the last (no
// permission, a bad request). Range over it again to go on after the last cursor.
func (w *Watch) All(ctx context.Context) iter.Seq2[*streamv1.WatchResponse, error] {
	return func(yield func(*streamv1.WatchResponse, error) bool) {
		defer func() {
			if w.state != WatchFailed {
				w.enter(WatchIdle)
			}
		}()
		for attempt := 0; ctx.Err() == nil; attempt++ {
			w.enter(WatchConnecting)
			heard, err := w.call(ctx, yield)
			if err == nil {
				return
			}
			if heard {
				attempt = 0
			}
			failure := FailureOf(err)
			if failure.Code == codes.Unauthenticated && w.renewsToken && heard {
				continue
			}
			if ctx.Err() == nil && !isPassing(failure.Code) {
				w.enter(WatchFailed)
				yield(nil, err)
				return
			}
			w.enter(WatchWaiting)
			if pause(ctx, failure.RetryAfter+w.options.Backoff.delay(attempt)) != nil {
				break
			}
		}
		yield(nil, ctx.Err())
	}
}

// call reads what one call answers, and tells whether it answered anything, and why it ended; nil when the reader stopped.
func (w *Watch) call(ctx context.Context, yield func(*streamv1.WatchResponse, error) bool) (heard bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	abandoned := status.Error(codes.Unavailable, "nothing was heard from the server")
	silence := time.AfterFunc(w.options.AbandonAfter, func() { cancel(abandoned) })
	defer silence.Stop()
	stream, err := w.events.Watch(ctx, w.request)
	if err != nil {
		return false, err
	}
	for {
		response, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return heard, status.Error(codes.Unavailable, "the server ended the stream")
		case errors.Is(context.Cause(ctx), abandoned):
			return heard, abandoned
		case err != nil:
			return heard, err
		}
		heard = true
		// The time that the reader takes is no silence of the server.
		silence.Stop()
		w.read(response)
		if !yield(response, nil) {
			return heard, nil
		}
		silence.Reset(w.options.AbandonAfter)
	}
}

func (w *Watch) read(response *streamv1.WatchResponse) {
	if cursor := response.GetCursor(); cursor != "" {
		w.request.Start = &streamv1.WatchRequest_Cursor{Cursor: cursor}
	}
	if response.GetCaughtUp() != nil {
		w.enter(WatchLive)
	} else if w.state == WatchConnecting {
		w.enter(WatchCatchingUp)
	}
}

func (w *Watch) enter(state WatchState) {
	w.state = state
	if w.options.OnState != nil {
		w.options.OnState(state)
	}
}

func newWatch(events streamv1.EventStreamServiceClient, request *streamv1.WatchRequest, options WatchOptions,
	renewsToken bool) *Watch {
	return &Watch{
		events:      events,
		request:     proto.CloneOf(request),
		options:     options.withDefaults(),
		renewsToken: renewsToken,
	}
}
