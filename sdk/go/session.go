package tailrace

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	authv1 "github.com/tailrace/tailrace/sdk/go/gen/auth/v1"
)

// A token is renewed when this share of its life is over.
const freshShare = 0.8

// Credentials say who calls: a Password, a Token, a TokenFunc, or nil for nobody.
type Credentials interface{ credentials() }

// Password is the account to sign in with. Its token is kept fresh.
type Password struct{ Email, Password string }

// Token is an access token that somebody else keeps.
type Token string

// TokenFunc is asked for the current access token before every call; an empty one is not sent.
type TokenFunc func(context.Context) (string, error)

func (Password) credentials()  {}
func (Token) credentials()     {}
func (TokenFunc) credentials() {}

// String shows whose it is and not the secret.
func (p Password) String() string { return "the account " + p.Email }

// GoString shows whose it is and not the secret.
func (p Password) GoString() string { return p.String() }

type tokens interface {
	// token gives the token to send, or "".
	token(ctx context.Context) (string, error)
	// refused takes note that the server refused a token, and tells whether there will be another.
	refused(ctx context.Context, token string) bool
}

func (t Token) token(context.Context) (string, error)         { return string(t), nil }
func (Token) refused(context.Context, string) bool            { return false }
func (f TokenFunc) token(ctx context.Context) (string, error) { return f(ctx) }
func (TokenFunc) refused(context.Context, string) bool        { return false }

type grant struct {
	accessToken  string
	refreshToken string
	freshUntil   time.Time
	validUntil   time.Time
}

// session is a sign-in that lasts: it signs in when a token is first needed, renews the token before it ends, once for all
// calls that wait for it, and signs in anew when the refresh token is no longer taken.
type session struct {
	auth    authv1.AuthServiceClient
	account Password
	retry   RetryOptions
	now     func() time.Time
	// Holds the grant, or nil; who takes it out fetches the next, and all others wait.
	grant chan *grant
}

// newSession takes a client that sends no token.
func newSession(auth authv1.AuthServiceClient, account Password, retry RetryOptions) *session {
	s := &session{auth: auth, account: account, retry: retry, now: time.Now, grant: make(chan *grant, 1)}
	s.grant <- nil
	return s
}

// change takes the grant, and puts back what the change makes of it, also when it fails.
func (s *session) change(ctx context.Context, change func(*grant) (*grant, error)) (*grant, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case last := <-s.grant:
		next, err := change(last)
		s.grant <- next
		return next, err
	}
}

// token gives a token that is valid for a while.
func (s *session) token(ctx context.Context) (string, error) {
	current, err := s.change(ctx, func(last *grant) (*grant, error) {
		if last != nil && s.now().Before(last.freshUntil) {
			return last, nil
		}
		return s.renewed(ctx, last)
	})
	if err != nil {
		return "", err
	}
	return current.accessToken, nil
}

// renew gets another token now.
func (s *session) renew(ctx context.Context) error {
	_, err := s.change(ctx, func(last *grant) (*grant, error) { return s.renewed(ctx, last) })
	return err
}

// refused takes note that the server refused a token, so that the next call gets another.
func (s *session) refused(ctx context.Context, token string) bool {
	_, err := s.change(ctx, func(last *grant) (*grant, error) {
		if last == nil || last.accessToken != token {
			return last, nil
		}
		return &grant{accessToken: token, refreshToken: last.refreshToken}, nil
	})
	return err == nil
}

// signOut ends the sign-in at the server; the next call would begin another.
func (s *session) signOut(ctx context.Context) error {
	var ended *grant
	_, err := s.change(ctx, func(last *grant) (*grant, error) {
		ended = last
		return nil, nil
	})
	if err != nil || ended == nil || ended.refreshToken == "" {
		return err
	}
	_, err = s.auth.Logout(ctx, &authv1.LogoutRequest{RefreshToken: ended.refreshToken})
	return err
}

func (s *session) renewed(ctx context.Context, last *grant) (*grant, error) {
	if last != nil && last.refreshToken != "" {
		answer, err := s.auth.RefreshToken(ctx, &authv1.RefreshTokenRequest{RefreshToken: last.refreshToken})
		if err == nil {
			return s.granted(answer.GetAccessToken(), answer.GetRefreshToken(), answer.GetExpiresIn()), nil
		}
		// A refresh token works once: when the answer is lost it may be spent, and to show it again would end the sign-in.
		// So it is forgotten, and any failure gives way to a new sign-in.
		last = &grant{accessToken: last.accessToken, freshUntil: last.freshUntil, validUntil: last.validUntil}
	}
	next, err := s.login(ctx)
	switch {
	case err == nil:
		return next, nil
	case last != nil && s.now().Before(last.validUntil):
		return last, nil
	default:
		return last, err
	}
}

func (s *session) login(ctx context.Context) (*grant, error) {
	var answer *authv1.LoginResponse
	// An answer that was lost leaves a sign-in that nobody uses, which does no harm.
	err := retrying(ctx, s.retry, func() error {
		var err error
		request := &authv1.LoginRequest{Email: s.account.Email, Password: s.account.Password}
		answer, err = s.auth.Login(ctx, request)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.granted(answer.GetAccessToken(), answer.GetRefreshToken(), answer.GetExpiresIn()), nil
}

func (s *session) granted(access, refresh string, expiresIn *durationpb.Duration) *grant {
	life := expiresIn.AsDuration()
	now := s.now()
	return &grant{
		accessToken:  access,
		refreshToken: refresh,
		freshUntil:   now.Add(time.Duration(float64(life) * freshShare)),
		validUntil:   now.Add(life),
	}
}

// authorize sends a token with every call, and a call that was refused for its token once more with another.
func authorize(source tokens) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply any, connection *grpc.ClientConn,
		invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		token, err := source.token(ctx)
		if err != nil {
			return err
		}
		err = invoke(withToken(ctx, token), method, request, reply, connection, options...)
		if token == "" || !wasRefused(err) || !source.refused(ctx, token) {
			return err
		}
		if token, err = source.token(ctx); err != nil {
			return err
		}
		return invoke(withToken(ctx, token), method, request, reply, connection, options...)
	}
}

func authorizeStream(source tokens) grpc.StreamClientInterceptor {
	return func(ctx context.Context, description *grpc.StreamDesc, connection *grpc.ClientConn, method string,
		streamer grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
		token, err := source.token(ctx)
		if err != nil {
			return nil, err
		}
		return streamer(withToken(ctx, token), description, connection, method, options...)
	}
}

func withToken(ctx context.Context, token string) context.Context {
	if token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

func wasRefused(err error) bool {
	failure := FailureOf(err)
	return failure.Code == codes.Unauthenticated && strings.HasPrefix(failure.Reason, "TOKEN_")
}
