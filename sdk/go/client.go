package tailrace

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	authv1 "github.com/tailrace/tailrace/sdk/go/gen/auth/v1"
	orderv1 "github.com/tailrace/tailrace/sdk/go/gen/order/v1"
	relayv1 "github.com/tailrace/tailrace/sdk/go/gen/relay/v1"
	streamv1 "github.com/tailrace/tailrace/sdk/go/gen/stream/v1"
	userv1 "github.com/tailrace/tailrace/sdk/go/gen/user/v1"
)

// Endpoints say where each process is reached, for example http://127.0.0.1:5001.
type Endpoints struct {
	Users, Orders, Relay, Gateway string
}

// Client has a typed client for every service. It can be used from many goroutines.
type Client struct {
	Auth   authv1.AuthServiceClient
	Users  userv1.UserServiceClient
	Orders orderv1.OrderServiceClient
	Relay  relayv1.RelayServiceClient
	Events streamv1.EventStreamServiceClient

	session     *session
	connections []*grpc.ClientConn
}

// Option changes how Connect connects.
type Option func(*settings)

type settings struct {
	retry RetryOptions
	tls   *tls.Config
}

// WithRetry says how calls are repeated.
func WithRetry(options RetryOptions) Option {
	return func(s *settings) { s.retry = options }
}

// WithTLS says how https endpoints are verified; without it, by the system's certificates.
func WithTLS(config *tls.Config) Option {
	return func(s *settings) { s.tls = config }
}

// Connect makes the clients. Nothing is sent before the first call; an account signs in with it.
func Connect(endpoints Endpoints, who Credentials, options ...Option) (*Client, error) {
	set := settings{}
	for _, option := range options {
		option(&set)
	}
	set.retry = set.retry.withDefaults()
	client := &Client{}
	if err := client.connect(endpoints, who, set); err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return client, nil
}

func (c *Client) connect(endpoints Endpoints, who Credentials, set settings) error {
	var source tokens = Token("")
	switch who := who.(type) {
	case Password:
		anybody, err := c.dial(endpoints.Users, set)
		if err != nil {
			return err
		}
		c.session = newSession(authv1.NewAuthServiceClient(anybody), who, set.retry)
		source = c.session
	case tokens:
		source = who
	}
	dialed := map[string]*grpc.ClientConn{}
	for _, endpoint := range []string{endpoints.Users, endpoints.Orders, endpoints.Relay, endpoints.Gateway} {
		if dialed[endpoint] != nil {
			continue
		}
		connection, err := c.dial(endpoint, set,
			grpc.WithChainUnaryInterceptor(authorize(source), retry(set.retry)),
			grpc.WithChainStreamInterceptor(authorizeStream(source)))
		if err != nil {
			return err
		}
		dialed[endpoint] = connection
	}
	c.Auth = authv1.NewAuthServiceClient(dialed[endpoints.Users])
	c.Users = userv1.NewUserServiceClient(dialed[endpoints.Users])
	c.Orders = orderv1.NewOrderServiceClient(dialed[endpoints.Orders])
	c.Relay = relayv1.NewRelayServiceClient(dialed[endpoints.Relay])
	c.Events = streamv1.NewEventStreamServiceClient(dialed[endpoints.Gateway])
	return nil
}

func (c *Client) dial(endpoint string, set settings, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	address, err := url.Parse(endpoint)
	if err != nil || address.Host == "" || (address.Scheme != "http" && address.Scheme != "https") {
		return nil, fmt.Errorf("%q is no endpoint: write http://HOST:PORT or https://HOST:PORT", endpoint)
	}
	transport := insecure.NewCredentials()
	if address.Scheme == "https" {
		transport = credentials.NewTLS(set.tls)
	}
	// Or a connection that is refused would be tried again later than the call is.
	reconnect := backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 2, Jitter: 0.2, MaxDelay: 5 * time.Second}
	options = append(options, grpc.WithTransportCredentials(transport),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: 5 * time.Second}))
	connection, err := grpc.NewClient("dns:///"+address.Host, options...)
	if err != nil {
		return nil, err
	}
	c.connections = append(c.connections, connection)
	return connection, nil
}

// Watch makes a watch of topics; nil options are the defaults. Nothing is sent before it is read.
func (c *Client) Watch(request *streamv1.WatchRequest, options *WatchOptions) *Watch {
	if options == nil {
		options = &WatchOptions{}
	}
	return newWatch(c.Events, request, *options, c.session != nil)
}

// Renew gets an account's next token now: one with the rights of now. It does nothing with a token.
func (c *Client) Renew(ctx context.Context) error {
	if c.session == nil {
		return nil
	}
	return c.session.renew(ctx)
}

// SignOut ends the sign-in of an account. It does nothing with a token.
func (c *Client) SignOut(ctx context.Context) error {
	if c.session == nil {
		return nil
	}
	return c.session.signOut(ctx)
}

// Close closes the connections, and with them the calls that go on.
func (c *Client) Close() error {
	var errs []error
	for _, connection := range c.connections {
		errs = append(errs, connection.Close())
	}
	return errors.Join(errs...)
}
