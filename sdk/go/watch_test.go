package tailrace

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	eventv1 "github.com/tailrace/tailrace/sdk/go/gen/event/v1"
	streamv1 "github.com/tailrace/tailrace/sdk/go/gen/stream/v1"
)

// step is a response, a code that ends the call, or silence for as long as the call lasts.
type step struct {
	response *streamv1.WatchResponse
	code     codes.Code
	hang     bool
}

func event(offset int64) step {
	message := &streamv1.WatchResponse_Event{Event: &eventv1.Event{Offset: offset}}
	return step{response: &streamv1.WatchResponse{Cursor: string(rune('a' + offset)), Message: message}}
}

func ends(code codes.Code) step { return step{code: code} }

var (
	caughtUp = step{response: &streamv1.WatchResponse{
		Cursor:  "end",
		Message: &streamv1.WatchResponse_CaughtUp_{CaughtUp: &streamv1.WatchResponse_CaughtUp{}},
	}}
	hangs = step{hang: true}
)

// script is a server that answers each call with the next list of steps, and keeps the cursors it was asked to begin with.
type script struct {
	fake
	cursors []string
	ended   chan struct{}
}

func play(calls ...[]step) *script {
	s := &script{ended: make(chan struct{}, len(calls))}
	s.watch = func(request *streamv1.WatchRequest, stream grpc.ServerStreamingServer[streamv1.WatchResponse]) error {
		s.cursors = append(s.cursors, request.GetCursor())
		for _, step := range calls[len(s.cursors)-1] {
			switch {
			case step.hang:
				<-stream.Context().Done()
				s.ended <- struct{}{}
				return stream.Context().Err()
			case step.response == nil:
				return status.Error(step.code, "over")
			default:
				if err := stream.Send(step.response); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return s
}

func quick() *WatchOptions {
	return &WatchOptions{Backoff: Backoff{Base: time.Millisecond, Cap: time.Millisecond}}
}

// read gives the offsets of the first events, and the error that ended them.
func read(ctx context.Context, watch *Watch, count int) (offsets []int64, err error) {
	for response, err := range watch.All(ctx) {
		if err != nil {
			return offsets, err
		}
		if event := response.GetEvent(); event != nil {
			offsets = append(offsets, event.GetOffset())
		}
		if len(offsets) == count {
			break
		}
	}
	return offsets, nil
}

func TestAWatchBeginsWhereAskedAndGoesOnAfterTheLastCursor(t *testing.T) {
	server := play([]step{event(1), event(2), ends(codes.Unavailable)}, []step{event(3)}, []step{caughtUp, event(4), hangs})
	client := serve(t, &server.fake, nil)
	var states []WatchState
	options := quick()
	options.OnState = func(state WatchState) { states = append(states, state) }
	offsets, err := read(t.Context(), client.Watch(&streamv1.WatchRequest{}, options), 4)
	if err != nil || !slices.Equal(offsets, []int64{1, 2, 3, 4}) {
		t.Errorf("%v, %v", offsets, err)
	}
	if !slices.Equal(server.cursors, []string{"", "c", "d"}) {
		t.Errorf("cursors: %q", server.cursors)
	}
	beginning := []WatchState{WatchConnecting, WatchCatchingUp, WatchWaiting}
	if want := slices.Concat(beginning, beginning, []WatchState{WatchConnecting, WatchLive, WatchIdle}); !slices.Equal(states, want) {
		t.Errorf("states: %v", states)
	}
	select {
	case <-server.ended:
	case <-time.After(10 * time.Second):
		t.Error("the call goes on without its reader")
	}
}

func TestAWatchEndsWhenAnotherCallWouldFailLikewise(t *testing.T) {
	server := play([]step{event(7), ends(codes.PermissionDenied)}, []step{event(8)})
	watch := serve(t, &server.fake, nil).Watch(&streamv1.WatchRequest{}, quick())
	if offsets, err := read(t.Context(), watch, 2); status.Code(err) != codes.PermissionDenied || len(offsets) != 1 {
		t.Errorf("%v, %v", offsets, err)
	}
	if offsets, err := read(t.Context(), watch, 1); err != nil || !slices.Equal(offsets, []int64{8}) {
		t.Errorf("%v, %v", offsets, err)
	}
	if !slices.Equal(server.cursors, []string{"", "h"}) {
		t.Errorf("cursors: %q", server.cursors)
	}
}

func TestAWatchGoesOnWithTheNextTokenUnlessThatIsRefusedToo(t *testing.T) {
	expired := ends(codes.Unauthenticated)
	server := play([]step{event(1), expired}, []step{event(2), expired}, []step{expired})
	watch := serve(t, &server.fake, Password{"a@b.c", "p"}).Watch(&streamv1.WatchRequest{}, quick())
	offsets, err := read(t.Context(), watch, 3)
	if status.Code(err) != codes.Unauthenticated || !slices.Equal(offsets, []int64{1, 2}) {
		t.Errorf("%v, %v", offsets, err)
	}
}

func TestAWatchGivesASilentCallUpAndLosesNothing(t *testing.T) {
	server := play([]step{event(1), hangs}, []step{event(2), hangs})
	options := quick()
	options.AbandonAfter = 100 * time.Millisecond
	offsets, err := read(t.Context(), serve(t, &server.fake, nil).Watch(&streamv1.WatchRequest{}, options), 2)
	if err != nil || !slices.Equal(offsets, []int64{1, 2}) || server.cursors[1] != "b" {
		t.Errorf("%v, %v, %q", offsets, err, server.cursors)
	}
}

func TestAWatchEndsWithItsContext(t *testing.T) {
	server := play([]step{event(1), hangs})
	ctx, cancel := context.WithCancel(t.Context())
	watch := serve(t, &server.fake, nil).Watch(&streamv1.WatchRequest{}, nil)
	time.AfterFunc(50*time.Millisecond, cancel)
	if offsets, err := read(ctx, watch, 2); !errors.Is(err, context.Canceled) || len(offsets) != 1 {
		t.Errorf("%v, %v", offsets, err)
	}
	if watch.Cursor() != "b" || watch.state != WatchIdle {
		t.Errorf("%q, %v", watch.Cursor(), watch.state)
	}
}
