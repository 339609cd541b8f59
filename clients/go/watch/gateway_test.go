package watch_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"google.golang.org/grpc/metadata"

	pb "qgateway.internal/go/qgatewayv1"
	"qgateway.internal/go/watch"
)

// TestFollowARealGateway prints what becomes of the jobs with a tag, until so many of them are deleted. tests/polyglot runs it while
// it breaks what lies between, and compares.
func TestFollowARealGateway(t *testing.T) {
	target, tag := os.Getenv("QGATEWAY_TARGET"), os.Getenv("FOLLOW_TAG")
	if target == "" || tag == "" {
		t.Skip("it needs a gateway: QGATEWAY_TARGET, QGATEWAY_API_KEY, FOLLOW_TAG, FOLLOW_JOBS")
	}
	left, err := strconv.Atoi(os.Getenv("FOLLOW_JOBS"))
	if err != nil {
		t.Fatal(err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+os.Getenv("QGATEWAY_API_KEY"))
	filter := &pb.JobFilter{AllTags: []string{tag}}
	for change, err := range clientOf(t, target).Jobs(ctx, filter, watch.Options{Token: os.Getenv("FOLLOW_TOKEN")}) {
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("change", change.Event.GetJob().GetName(), change.Event.GetRevision(), change.Event.GetType(), change.Token)
		if change.Event.GetType() == pb.JobEvent_TYPE_DELETED {
			left--
		}
		if left == 0 {
			return
		}
	}
}
