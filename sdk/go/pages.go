package tailrace

import (
	"context"
	"iter"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Pages gives every page of a list, each asked for when the one before has been read. It ends with the first error.
//
//	for page, err := range tailrace.Pages(ctx, client.Orders.ListOrders, &orderv1.ListOrdersRequest{}) { … }
func Pages[Request proto.Message, Page interface{ GetNextPageToken() string }](
	ctx context.Context,
	list func(context.Context, Request, ...grpc.CallOption) (Page, error),
	request Request,
) iter.Seq2[Page, error] {
	return func(yield func(Page, error) bool) {
		following := proto.CloneOf(request)
		for {
			page, err := list(ctx, following)
			if !yield(page, err) || err != nil || page.GetNextPageToken() == "" {
				return
			}
			setPageToken(following, page.GetNextPageToken())
		}
	}
}

func setPageToken(request proto.Message, token string) {
	message := request.ProtoReflect()
	field := message.Descriptor().Fields().ByName("page_token")
	if field == nil {
		panic("a request of a list has a page_token: " + string(message.Descriptor().FullName()))
	}
	message.Set(field, protoreflect.ValueOfString(token))
}
