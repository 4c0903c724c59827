package tailrace

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	authv1 "github.com/tailrace/tailrace/sdk/go/gen/auth/v1"
	orderv1 "github.com/tailrace/tailrace/sdk/go/gen/order/v1"
	relayv1 "github.com/tailrace/tailrace/sdk/go/gen/relay/v1"
	streamv1 "github.com/tailrace/tailrace/sdk/go/gen/stream/v1"
)

// fake serves every service; each test writes the answers that it needs.
type fake struct {
	authv1.UnimplementedAuthServiceServer
	orderv1.UnimplementedOrderServiceServer
	relayv1.UnimplementedRelayServiceServer
	streamv1.UnimplementedEventStreamServiceServer

	mu     sync.Mutex
	asked  []string
	tokens []string
	issued int

	refreshFails bool
	// unary answers every call of orders and relay, told its request_id.
	unary func(ctx context.Context, requestID string) error
	list  func(*orderv1.ListOrdersRequest) *orderv1.ListOrdersResponse
	watch func(*streamv1.WatchRequest, grpc.ServerStreamingServer[streamv1.WatchResponse]) error
}

func (f *fake) ask(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, what)
}

func (f *fake) grant(asked string) (access, refresh string) {
	f.ask(asked)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.issued++
	return fmt.Sprintf("a%d", f.issued), fmt.Sprintf("r%d", f.issued)
}

func (f *fake) Login(context.Context, *authv1.LoginRequest) (*authv1.LoginResponse, error) {
	access, refresh := f.grant("login")
	life := durationpb.New(15 * time.Minute)
	return &authv1.LoginResponse{AccessToken: access, RefreshToken: refresh, ExpiresIn: life}, nil
}

func (f *fake) RefreshToken(_ context.Context, r *authv1.RefreshTokenRequest) (*authv1.RefreshTokenResponse, error) {
	if f.refreshFails {
		f.ask("refresh " + r.GetRefreshToken())
		return nil, status.Error(codes.Unauthenticated, "spent")
	}
	access, refresh := f.grant("refresh " + r.GetRefreshToken())
	life := durationpb.New(15 * time.Minute)
	return &authv1.RefreshTokenResponse{AccessToken: access, RefreshToken: refresh, ExpiresIn: life}, nil
}

func (f *fake) Logout(_ context.Context, r *authv1.LogoutRequest) (*authv1.LogoutResponse, error) {
	f.ask("logout " + r.GetRefreshToken())
	return &authv1.LogoutResponse{}, nil
}

func (f *fake) answer(ctx context.Context, requestID string) error {
	incoming, _ := metadata.FromIncomingContext(ctx)
	f.mu.Lock()
	f.tokens = append(f.tokens, incoming.Get("authorization")...)
	f.mu.Unlock()
	return f.unary(ctx, requestID)
}

func (f *fake) CreateOrder(ctx context.Context, r *orderv1.CreateOrderRequest) (*orderv1.Order, error) {
	return &orderv1.Order{}, f.answer(ctx, r.GetRequestId())
}

func (f *fake) GetOrder(ctx context.Context, _ *orderv1.GetOrderRequest) (*orderv1.Order, error) {
	return &orderv1.Order{}, f.answer(ctx, "")
}

func (f *fake) ListOrders(_ context.Context, r *orderv1.ListOrdersRequest) (*orderv1.ListOrdersResponse, error) {
	return f.list(r), nil
}

func (f *fake) RedriveDeadLetter(ctx context.Context, _ *relayv1.RedriveDeadLetterRequest) (
	*relayv1.RedriveDeadLetterResponse, error) {
	return &relayv1.RedriveDeadLetterResponse{}, f.answer(ctx, "")
}

func (f *fake) Watch(r *streamv1.WatchRequest, stream grpc.ServerStreamingServer[streamv1.WatchResponse]) error {
	return f.watch(r, stream)
}

// serve serves until the test ends, and gives a client of it.
func serve(t *testing.T, f *fake, who Credentials, options ...Option) *Client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	authv1.RegisterAuthServiceServer(server, f)
	orderv1.RegisterOrderServiceServer(server, f)
	relayv1.RegisterRelayServiceServer(server, f)
	streamv1.RegisterEventStreamServiceServer(server, f)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	address := "http://" + listener.Addr().String()
	client, err := Connect(Endpoints{address, address, address, address}, who, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func rich(code codes.Code, message string, details ...protoadapt.MessageV1) error {
	state, err := status.New(code, message).WithDetails(details...)
	if err != nil {
		panic(err)
	}
	return state.Err()
}

func away(wait time.Duration) error {
	return rich(codes.Unavailable, "away", &errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
}
