//go:build live

// Package live tries the client against a running system, whose addresses the environment names. The CUT_ ones lead there
// over links that break all the time.
package live

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/type/money"

	tailrace "github.com/tailrace/tailrace/sdk/go"
	orderv1 "github.com/tailrace/tailrace/sdk/go/gen/order/v1"
	streamv1 "github.com/tailrace/tailrace/sdk/go/gen/stream/v1"
	userv1 "github.com/tailrace/tailrace/sdk/go/gen/user/v1"
)

const ordersPlaced = 20

func setting(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv("TAILRACE_" + name)
	if value == "" {
		t.Fatalf("TAILRACE_%s is not set: cargo xtask test sets it", name)
	}
	return value
}

func endpoints(t *testing.T) tailrace.Endpoints {
	t.Helper()
	return tailrace.Endpoints{
		Users:   setting(t, "USERS_URL"),
		Orders:  setting(t, "ORDERS_URL"),
		Relay:   setting(t, "RELAY_URL"),
		Gateway: setting(t, "GATEWAY_URL"),
	}
}

func connect(t *testing.T, to tailrace.Endpoints, who tailrace.Credentials) *tailrace.Client {
	t.Helper()
	client, err := tailrace.Connect(to, who)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// customer is somebody new.
func customer(t *testing.T, to tailrace.Endpoints) (*tailrace.Client, *userv1.User) {
	t.Helper()
	account := tailrace.Password{
		Email:    tailrace.NewRequestID() + "@sdk.tailrace.localhost",
		Password: "a password of the tests",
	}
	user, err := connect(t, endpoints(t), nil).Users.CreateUser(t.Context(), &userv1.CreateUserRequest{
		User:     &userv1.User{DisplayName: "SDK", Email: account.Email},
		Password: account.Password,
	})
	if err != nil {
		t.Fatal(err)
	}
	return connect(t, to, account), user
}

func order(product string, quantity int32) *orderv1.CreateOrderRequest {
	price := &money.Money{CurrencyCode: "EUR", Units: 12, Nanos: 500_000_000}
	line := &orderv1.OrderLine{Product: product, Quantity: quantity, UnitPrice: price}
	return &orderv1.CreateOrderRequest{Order: &orderv1.Order{Lines: []*orderv1.OrderLine{line}}}
}

func place(ctx context.Context, client *tailrace.Client, count int) (names []string, err error) {
	for number := range count {
		placed, err := client.Orders.CreateOrder(ctx, order(fmt.Sprintf("Wheel %d", number), 1))
		if err != nil {
			return names, err
		}
		names = append(names, placed.GetName())
	}
	return names, nil
}

func list(t *testing.T, client *tailrace.Client, pageSize int32) (sizes []int, names []string) {
	t.Helper()
	request := &orderv1.ListOrdersRequest{PageSize: pageSize}
	for page, err := range tailrace.Pages(t.Context(), client.Orders.ListOrders, request) {
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(page.GetOrders()))
		for _, order := range page.GetOrders() {
			names = append(names, order.GetName())
		}
	}
	return sizes, names
}

func TestACustomerListsByPagesWhatWasOrderedNewestFirst(t *testing.T) {
	client, _ := customer(t, endpoints(t))
	placed, err := place(t.Context(), client, 5)
	if err != nil {
		t.Fatal(err)
	}
	sizes, listed := list(t, client, 2)
	slices.Reverse(listed)
	if !slices.Equal(sizes, []int{2, 2, 1}) || !slices.Equal(listed, placed) {
		t.Errorf("%v, %v, not %v", sizes, listed, placed)
	}
}

func TestACustomerReadsWhyACallFailed(t *testing.T) {
	client, user := customer(t, endpoints(t))
	_, err := client.Orders.CreateOrder(t.Context(), order("Sluice", 0))
	invalid := tailrace.FailureOf(err)
	if invalid.Reason != "INVALID_FIELDS" || invalid.Fields["order.lines[0].quantity"] == "" || len(invalid.Fields) != 1 {
		t.Errorf("%+v", invalid)
	}
	placed, err := place(t.Context(), client, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range []string{"", "ORDER_NOT_PLACED"} {
		_, err := client.Orders.CancelOrder(t.Context(), &orderv1.CancelOrderRequest{Name: placed[0]})
		if got := tailrace.FailureOf(err).Reason; got != reason {
			t.Errorf("%q, not %q", got, reason)
		}
	}
	for _, reason := range []string{"", "ETAG_MISMATCH"} {
		changed := &userv1.User{Name: user.GetName(), DisplayName: "Changed" + reason, Etag: user.GetEtag()}
		_, err := client.Users.UpdateUser(t.Context(), &userv1.UpdateUserRequest{User: changed})
		if got := tailrace.FailureOf(err).Reason; got != reason {
			t.Errorf("%q, not %q", got, reason)
		}
	}
	found, err := client.Users.GetUser(t.Context(), &userv1.GetUserRequest{Name: user.GetName()})
	if err != nil || found.GetDisplayName() != "Changed" {
		t.Errorf("%v, %v", found, err)
	}
}

func TestACustomerStaysSignedInByRefreshingAndSignsOut(t *testing.T) {
	client, user := customer(t, endpoints(t))
	for range 3 {
		if err := client.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Users.GetUser(t.Context(), &userv1.GetUserRequest{Name: user.GetName()}); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.SignOut(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestACustomerPlacesEachOrderOnceAndSeesItOnceOverLinksThatBreak(t *testing.T) {
	cut := endpoints(t)
	cut.Orders = setting(t, "CUT_ORDERS_URL")
	cut.Gateway = setting(t, "CUT_GATEWAY_URL")
	client, _ := customer(t, cut)
	type result struct {
		names []string
		err   error
	}
	placing := make(chan result, 1)
	go func() {
		names, err := place(t.Context(), client, ordersPlaced)
		placing <- result{names, err}
	}()
	waited := false
	watch := client.Watch(&streamv1.WatchRequest{
		Topics: []string{"orders.created"},
		Start:  &streamv1.WatchRequest_Newest{Newest: 1000},
	}, &tailrace.WatchOptions{
		Backoff: tailrace.Backoff{Base: 50 * time.Millisecond, Cap: 200 * time.Millisecond},
		OnState: func(state tailrace.WatchState) { waited = waited || state == tailrace.WatchWaiting },
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var seen []string
	for response, err := range watch.All(ctx) {
		if err != nil {
			t.Fatalf("%v after %d events", err, len(seen))
		}
		if event := response.GetEvent(); event != nil {
			seen = append(seen, event.GetSubject())
		}
		if len(seen) >= ordersPlaced && waited {
			break
		}
	}
	placed := <-placing
	if placed.err != nil {
		t.Fatal(placed.err)
	}
	_, listed := list(t, client, 7)
	slices.Reverse(listed)
	if !slices.Equal(listed, placed.names) {
		t.Errorf("%v, not %v", listed, placed.names)
	}
	// Orders lie in several partitions, so only each order's own events have an order.
	slices.Sort(seen)
	slices.Sort(placed.names)
	if !slices.Equal(seen, placed.names) {
		t.Errorf("%v, not %v", seen, placed.names)
	}
}
