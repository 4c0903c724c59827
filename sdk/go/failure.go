package tailrace

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Failure is a failed call in the words a program needs: what, why, and which field.
type Failure struct {
	// Code is the kind of failure.
	Code codes.Code
	// Reason is machine-readable, such as REQUEST_ID_REUSED; empty when the server gave none.
	Reason string
	// Message is the server's sentence.
	Message string
	// Fields says what is wrong with each field, by its path in the request, such as order.lines[0].quantity.
	Fields map[string]string
	// RetryAfter is how long the server asks to wait before another try; 0 when it does not say.
	RetryAfter time.Duration
}

// FailureOf reads the status details (ErrorInfo, BadRequest, RetryInfo) of what a call returned.
func FailureOf(err error) Failure {
	state, _ := status.FromError(err)
	failure := Failure{Code: state.Code(), Message: state.Message(), Fields: map[string]string{}}
	aboutField := ""
	for _, detail := range state.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			failure.Reason = detail.GetReason()
			aboutField = detail.GetMetadata()["field"]
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				failure.Fields[violation.GetField()] = violation.GetDescription()
			}
		case *errdetails.RetryInfo:
			failure.RetryAfter = detail.GetRetryDelay().AsDuration()
		}
	}
	// What is no bad request can still be about one field: an e-mail address that is taken.
	if aboutField != "" && len(failure.Fields) == 0 {
		failure.Fields[aboutField] = failure.Message
	}
	return failure
}

// isPassing tells whether the same call can succeed later without anybody changing anything. What cannot be told counts
// as passing: giving up on a stream that would have come back is worse than one more attempt.
func isPassing(code codes.Code) bool {
	switch code {
	case codes.Unauthenticated, codes.PermissionDenied, codes.InvalidArgument, codes.FailedPrecondition,
		codes.OutOfRange, codes.NotFound, codes.AlreadyExists, codes.Unimplemented:
		return false
	default:
		return true
	}
}
