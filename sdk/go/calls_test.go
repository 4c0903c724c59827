package tailrace

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	orderv1 "github.com/tailrace/tailrace/sdk/go/gen/order/v1"
	relayv1 "github.com/tailrace/tailrace/sdk/go/gen/relay/v1"
)

// failing is a server whose calls fail so often, and a client that keeps its waits.
type failing struct {
	*Client
	requestIDs []string
	waits      []time.Duration
}

func newFailing(t *testing.T, failures int, retryAfter time.Duration) *failing {
	t.Helper()
	return newFailingWith(t, failures, away(retryAfter))
}

func newFailingWith(t *testing.T, failures int, failure error) *failing {
	t.Helper()
	f := &failing{}
	server := &fake{unary: func(_ context.Context, requestID string) error {
		f.requestIDs = append(f.requestIDs, requestID)
		if len(f.requestIDs) <= failures {
			return failure
		}
		return nil
	}}
	f.Client = serve(t, server, nil, WithRetry(RetryOptions{
		Backoff: Backoff{Random: func() float64 { return 1 }},
		pause: func(_ context.Context, wait time.Duration) error {
			f.waits = append(f.waits, wait)
			return nil
		},
	}))
	return f
}

func TestACallToAServiceThatIsAwayIsSentAgainWithOneRequestID(t *testing.T) {
	f := newFailing(t, 2, 0)
	request := &orderv1.CreateOrderRequest{}
	if _, err := f.Orders.CreateOrder(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	if len(f.requestIDs) != 3 || len(slices.Compact(slices.Clone(f.requestIDs))) != 1 || len(f.requestIDs[0]) != 36 {
		t.Errorf("request ids: %v", f.requestIDs)
	}
	if want := []time.Duration{100 * time.Millisecond, 200 * time.Millisecond}; !slices.Equal(f.waits, want) {
		t.Errorf("waits: %v", f.waits)
	}
	if request.GetRequestId() != "" {
		t.Error("the caller's request was changed")
	}
}

func TestARequestIDThatWasGivenIsKept(t *testing.T) {
	f := newFailing(t, 1, 0)
	if _, err := f.Orders.CreateOrder(t.Context(), &orderv1.CreateOrderRequest{RequestId: "mine"}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"mine", "mine"}; !slices.Equal(f.requestIDs, want) {
		t.Errorf("request ids: %v", f.requestIDs)
	}
}

func TestTheWaitIsAsLongAsTheServerAsks(t *testing.T) {
	f := newFailing(t, 1, 7*time.Second)
	if _, err := f.Orders.GetOrder(t.Context(), &orderv1.GetOrderRequest{}); err != nil {
		t.Fatal(err)
	}
	if want := []time.Duration{7100 * time.Millisecond}; !slices.Equal(f.waits, want) {
		t.Errorf("waits: %v", f.waits)
	}
}

func TestACallThatWasOneTooManyIsSentAgainWhenTheServerSays(t *testing.T) {
	exhausted := func(reason string) error {
		return rich(codes.ResourceExhausted, "too many", &errdetails.ErrorInfo{Reason: reason, Domain: "tailrace"},
			&errdetails.RetryInfo{RetryDelay: durationpb.New(7 * time.Second)})
	}
	f := newFailingWith(t, 1, exhausted("RATE_LIMIT_EXCEEDED"))
	if _, err := f.Orders.GetOrder(t.Context(), &orderv1.GetOrderRequest{}); err != nil {
		t.Fatal(err)
	}
	if want := []time.Duration{7100 * time.Millisecond}; !slices.Equal(f.waits, want) {
		t.Errorf("waits: %v", f.waits)
	}
	// Other limits are for people to wait for.
	f = newFailingWith(t, 1, exhausted("SIGN_IN_THROTTLED"))
	_, err := f.Orders.GetOrder(t.Context(), &orderv1.GetOrderRequest{})
	if status.Code(err) != codes.ResourceExhausted || len(f.waits) != 0 {
		t.Errorf("%v after %v", err, f.waits)
	}
}

func TestNoWaitPassesTheDeadline(t *testing.T) {
	f := newFailing(t, 1, 7*time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := f.Orders.GetOrder(ctx, &orderv1.GetOrderRequest{})
	if status.Code(err) != codes.Unavailable || len(f.waits) != 0 {
		t.Errorf("%v after %v", err, f.waits)
	}
}

func TestACallFailsInTheEnd(t *testing.T) {
	f := newFailing(t, 5, 0)
	_, err := f.Orders.GetOrder(t.Context(), &orderv1.GetOrderRequest{})
	if status.Code(err) != codes.Unavailable || len(f.requestIDs) != 5 {
		t.Errorf("%v after %d calls", err, len(f.requestIDs))
	}
}

func TestACallThatCouldDoHarmTwiceIsSentOnce(t *testing.T) {
	f := newFailing(t, 1, 0)
	_, err := f.Relay.RedriveDeadLetter(t.Context(), &relayv1.RedriveDeadLetterRequest{})
	if status.Code(err) != codes.Unavailable || len(f.requestIDs) != 1 {
		t.Errorf("%v after %d calls", err, len(f.requestIDs))
	}
}

func TestASessionSignsInOnceForCallsAtTheSameTimeAndRenewsOnce(t *testing.T) {
	server := &fake{}
	client := serve(t, server, Password{"a@b.c", "p"})
	moment := time.Now()
	client.session.now = func() time.Time { return moment }
	var tokens []string
	var mu sync.Mutex
	for _, after := range []time.Duration{0, 719 * time.Second, time.Second} {
		moment = moment.Add(after)
		var calls sync.WaitGroup
		for range 8 {
			calls.Go(func() {
				token, err := client.session.token(t.Context())
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				tokens = append(tokens, token)
				mu.Unlock()
			})
		}
		calls.Wait()
	}
	if want := []string{"login", "refresh r1"}; !slices.Equal(server.asked, want) {
		t.Errorf("asked: %v", server.asked)
	}
	if want := slices.Concat(slices.Repeat([]string{"a1"}, 16), slices.Repeat([]string{"a2"}, 8)); !slices.Equal(tokens, want) {
		t.Errorf("tokens: %v", tokens)
	}
}

func TestASessionSignsInAnewWhenTheRefreshTokenIsNotTaken(t *testing.T) {
	server := &fake{refreshFails: true}
	client := serve(t, server, Password{"a@b.c", "p"})
	for _, step := range []func(context.Context) error{client.Renew, client.Renew, client.SignOut} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"login", "refresh r1", "login", "logout r2"}; !slices.Equal(server.asked, want) {
		t.Errorf("asked: %v", server.asked)
	}
}

func TestACallThatIsRefusedForItsTokenIsSentWithTheNext(t *testing.T) {
	server := &fake{}
	server.unary = func(context.Context, string) error {
		if len(server.tokens) == 1 {
			return rich(codes.Unauthenticated, "not any more", &errdetails.ErrorInfo{Reason: "TOKEN_INVALID"})
		}
		return nil
	}
	client := serve(t, server, Password{"a@b.c", "p"})
	if _, err := client.Orders.GetOrder(t.Context(), &orderv1.GetOrderRequest{}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"Bearer a1", "Bearer a2"}; !slices.Equal(server.tokens, want) {
		t.Errorf("tokens: %v", server.tokens)
	}
}

func TestATokenThatWasGivenIsSentAsItIs(t *testing.T) {
	server := &fake{unary: func(context.Context, string) error { return nil }}
	tokens := []string{"", "t1"}
	client := serve(t, server, TokenFunc(func(context.Context) (string, error) {
		token := tokens[0]
		tokens = tokens[1:]
		return token, nil
	}))
	for range 2 {
		if _, err := client.Orders.GetOrder(t.Context(), &orderv1.GetOrderRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"Bearer t1"}; !slices.Equal(server.tokens, want) {
		t.Errorf("tokens: %v", server.tokens)
	}
}

func TestPagesAreAskedForOneAfterTheOtherWithTheSameFilter(t *testing.T) {
	var steps []string
	client := serve(t, &fake{list: func(request *orderv1.ListOrdersRequest) *orderv1.ListOrdersResponse {
		steps = append(steps, request.GetFilter()+" "+request.GetPageToken())
		if request.GetPageToken() == "" {
			return &orderv1.ListOrdersResponse{NextPageToken: "second"}
		}
		return &orderv1.ListOrdersResponse{}
	}}, nil)
	request := &orderv1.ListOrdersRequest{Filter: "f"}
	for _, err := range Pages(t.Context(), client.Orders.ListOrders, request) {
		if err != nil {
			t.Fatal(err)
		}
		steps = append(steps, "read")
	}
	if want := []string{"f ", "read", "f second", "read"}; !slices.Equal(steps, want) {
		t.Errorf("steps: %q", steps)
	}
	if request.GetPageToken() != "" {
		t.Error("the caller's request was changed")
	}
}

func TestAFailureNamesItsReasonAndItsFields(t *testing.T) {
	client := serve(t, &fake{unary: func(context.Context, string) error {
		violation := &errdetails.BadRequest_FieldViolation{Field: "name", Description: "is no name"}
		return rich(codes.InvalidArgument, "the request is not valid",
			&errdetails.ErrorInfo{Reason: "INVALID_FIELDS"},
			&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{violation}})
	}}, nil)
	_, err := client.Orders.GetOrder(t.Context(), &orderv1.GetOrderRequest{})
	failure := FailureOf(err)
	if failure.Code != codes.InvalidArgument || failure.Reason != "INVALID_FIELDS" ||
		failure.Message != "the request is not valid" || failure.Fields["name"] != "is no name" {
		t.Errorf("%+v", failure)
	}
}

func TestTheWaitDoublesUpToABound(t *testing.T) {
	for _, c := range []struct {
		attempt int
		random  float64
		want    time.Duration
	}{{0, 0, 0}, {0, 1, 500 * time.Millisecond}, {3, 0.5, 2 * time.Second}, {6, 1, 30 * time.Second}, {1000, 1, 30 * time.Second}} {
		backoff := Backoff{500 * time.Millisecond, 30 * time.Second, func() float64 { return c.random }}
		if got := backoff.delay(c.attempt); got != c.want {
			t.Errorf("attempt %d with random %v: %v, not %v", c.attempt, c.random, got, c.want)
		}
	}
}

func TestAnAddressWithoutASchemeIsNoEndpoint(t *testing.T) {
	_, err := Connect(Endpoints{Users: "127.0.0.1:5001"}, nil)
	if err == nil || !strings.Contains(err.Error(), "is no endpoint") {
		t.Error(err)
	}
}

func TestAPasswordIsNotShown(t *testing.T) {
	if shown := fmt.Sprintf("%v %+v %#v", Password{"a@b.c", "secret"}, Password{"a@b.c", "secret"}, Password{"a@b.c", "secret"}); strings.Contains(shown, "secret") {
		t.Error(shown)
	}
}
