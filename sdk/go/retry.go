package tailrace

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// RetryOptions says how a call that cannot do harm twice is repeated while the service is away.
type RetryOptions struct {
	// AttemptsMax is how often a call is sent at most, the first time included; 0 means 5.
	AttemptsMax int
	// Backoff bounds the waits; without it they are bounded by 0.1 s to 5 s.
	Backoff Backoff

	pause func(context.Context, time.Duration) error
}

func (o RetryOptions) withDefaults() RetryOptions {
	if o.AttemptsMax == 0 {
		o.AttemptsMax = 5
	}
	if o.Backoff.Base == 0 {
		o.Backoff.Base = 100 * time.Millisecond
	}
	if o.Backoff.Cap == 0 {
		o.Backoff.Cap = 5 * time.Second
	}
	if o.pause == nil {
		o.pause = pause
	}
	return o
}

// NewRequestID makes a fresh request_id (UUID v4). Make one for each thing the caller wants to happen, and send the same
// again when the outcome of a call is unknown: the server then answers as it did, or would have done, the first time.
func NewRequestID() string {
	return uuid.NewString()
}

// IsRepeatable tells whether the contract lets a client send a call again without knowing what became of the first. The
// method is its path, /package.Service/Method.
func IsRepeatable(method string) bool {
	name := strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return false
	}
	descriptor, ok := found.(protoreflect.MethodDescriptor)
	if !ok {
		return false
	}
	options, _ := descriptor.Options().(*descriptorpb.MethodOptions)
	return options.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN ||
		requestIDField(descriptor.Input()) != nil
}

func requestIDField(message protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	field := message.Fields().ByName("request_id")
	if field == nil || field.Kind() != protoreflect.StringKind {
		return nil
	}
	return field
}

// withRequestID gives a request a request_id unless it has one; the caller's message stays as it is.
func withRequestID(request any) any {
	message, ok := request.(proto.Message)
	if !ok {
		return request
	}
	field := requestIDField(message.ProtoReflect().Descriptor())
	if field == nil || message.ProtoReflect().Has(field) {
		return request
	}
	copied := proto.Clone(message)
	copied.ProtoReflect().Set(field, protoreflect.ValueOfString(NewRequestID()))
	return copied
}

// tooManyCalls is the reason of a call that was refused because too many came, before anything was done for it.
const tooManyCalls = "RATE_LIMIT_EXCEEDED"

// retry repeats what failed with UNAVAILABLE (AIP-194) or because too many calls came: calls that the contract says change nothing, and calls with a
// request_id, which gets a fresh one when it has none. A wait is what the server's RetryInfo says, plus jitter.
func retry(options RetryOptions) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, reply any, connection *grpc.ClientConn,
		invoke grpc.UnaryInvoker, callOptions ...grpc.CallOption) error {
		if !IsRepeatable(method) {
			return invoke(ctx, method, request, reply, connection, callOptions...)
		}
		request = withRequestID(request)
		return retrying(ctx, options, func() error {
			return invoke(ctx, method, request, reply, connection, callOptions...)
		})
	}
}

// retrying calls until it succeeds, fails otherwise than with UNAVAILABLE or because too many calls came, or has failed often
// enough. No wait begins that would pass the deadline.
func retrying(ctx context.Context, options RetryOptions, call func() error) error {
	for attempt := 1; ; attempt++ {
		err := call()
		if err == nil {
			return nil
		}
		failure := FailureOf(err)
		repeated := failure.Code == codes.Unavailable || failure.Reason == tooManyCalls
		if !repeated || attempt >= options.AttemptsMax {
			return err
		}
		wait := failure.RetryAfter + options.Backoff.delay(attempt-1)
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
			return err
		}
		if options.pause(ctx, wait) != nil {
			return err
		}
	}
}
