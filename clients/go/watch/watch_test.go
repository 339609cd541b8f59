package watch_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "qgateway.internal/go/qgatewayv1"
	"qgateway.internal/go/watch"
)

const job = "jobs/a"

// step is what a scripted gateway does on a stream: it sends a message, or ends the stream with an error, or says nothing any more.
// A stream whose steps are over ends with OK.
type step struct {
	event     *pb.JobEvent
	heartbeat *pb.WatchHeartbeat
	token     string
	err       error
	silent    bool
}

func event(kind pb.JobEvent_Type, name string, revision int64, jobStatus pb.JobStatus) step {
	return step{
		event: &pb.JobEvent{Type: kind, Revision: revision, Job: &pb.Job{Name: name, Status: jobStatus}},
		token: token(revision),
	}
}

func snapshot(name string, revision int64) step {
	return event(pb.JobEvent_TYPE_SNAPSHOT, name, revision, pb.JobStatus_JOB_STATUS_QUEUED)
}

func change(name string, revision int64) step {
	return event(pb.JobEvent_TYPE_UPDATED, name, revision, pb.JobStatus_JOB_STATUS_QUEUED)
}

func done(name string, revision int64) step {
	return event(pb.JobEvent_TYPE_STATUS_CHANGED, name, revision, pb.JobStatus_JOB_STATUS_DONE)
}

func beat(revision int64, interval time.Duration) step {
	return step{heartbeat: &pb.WatchHeartbeat{Interval: durationpb.New(interval)}, token: token(revision)}
}

// before gives a message the token of an earlier one, as the parts of a snapshot of many jobs have it.
func (s step) before(revision int64) step {
	s.token = token(revision)
	return s
}

func token(revision int64) string { return string(rune('0' + revision)) }

func failure(code codes.Code, details ...protoadapt.MessageV1) step {
	told, err := status.New(code, code.String()).WithDetails(details...)
	if err != nil {
		panic(err)
	}
	return step{err: told.Err()}
}

func reason(reason string) protoadapt.MessageV1 {
	return &errdetails.ErrorInfo{Domain: "qgateway", Reason: reason}
}

var (
	cut       = failure(codes.Unavailable)
	compacted = failure(codes.OutOfRange, reason("HISTORY_COMPACTED"))
	hang      = step{silent: true}
)

// asked is a request as the gateway saw it.
type asked struct {
	token    string
	snapshot bool // for history that is gone
	peer     string
	at       time.Time
}

// gateway plays one script after another, one for each stream.
type gateway struct {
	pb.UnimplementedJobServiceServer
	mu      sync.Mutex
	scripts [][]step
	asked   []asked
}

func (g *gateway) begin(ctx context.Context, token string, gap pb.OnCompacted) []step {
	g.mu.Lock()
	defer g.mu.Unlock()
	from, _ := peer.FromContext(ctx)
	g.asked = append(g.asked, asked{token, gap == pb.OnCompacted_ON_COMPACTED_SNAPSHOT, from.Addr.String(), time.Now()})
	if len(g.scripts) == 0 {
		return []step{hang}
	}
	script := g.scripts[0]
	g.scripts = g.scripts[1:]
	return script
}

func (g *gateway) tokens() (tokens []string) {
	for _, each := range g.asked {
		tokens = append(tokens, each.token)
	}
	return tokens
}

func play(ctx context.Context, script []step, send func(step) error) error {
	for _, step := range script {
		switch {
		case step.silent:
			<-ctx.Done()
			return ctx.Err()
		case step.err != nil:
			return step.err
		}
		if err := send(step); err != nil {
			return err
		}
	}
	return nil
}

func (g *gateway) WatchJob(request *pb.WatchJobRequest, stream grpc.ServerStreamingServer[pb.WatchJobResponse]) error {
	script := g.begin(stream.Context(), request.GetResumeToken(), request.GetOnCompacted())
	return play(stream.Context(), script, func(s step) error {
		response := &pb.WatchJobResponse{ResumeToken: s.token}
		if s.event != nil {
			response.Update = &pb.WatchJobResponse_Event{Event: s.event}
		} else if s.heartbeat != nil {
			response.Update = &pb.WatchJobResponse_Heartbeat{Heartbeat: s.heartbeat}
		}
		return stream.Send(response)
	})
}

func (g *gateway) WatchJobs(request *pb.WatchJobsRequest, stream grpc.ServerStreamingServer[pb.WatchJobsResponse]) error {
	script := g.begin(stream.Context(), request.GetResumeToken(), request.GetOnCompacted())
	return play(stream.Context(), script, func(s step) error {
		response := &pb.WatchJobsResponse{ResumeToken: s.token}
		if s.event != nil {
			response.Update = &pb.WatchJobsResponse_Event{Event: s.event}
		} else if s.heartbeat != nil {
			response.Update = &pb.WatchJobsResponse_Heartbeat{Heartbeat: s.heartbeat}
		}
		return stream.Send(response)
	})
}

// serve starts a gateway that plays these scripts, and returns it with a client of it.
func serve(t *testing.T, scripts ...[]step) (*gateway, *watch.Client) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	scripted, server := &gateway{scripts: scripts}, grpc.NewServer()
	pb.RegisterJobServiceServer(server, scripted)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return scripted, clientOf(t, listener.Addr().String())
}

func clientOf(t *testing.T, target string) *watch.Client {
	t.Helper()
	client := watch.New(func() (*grpc.ClientConn, error) {
		return grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// patience returns a context for what has to come soon.
func patience(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestEachEventOfAJobComesOnce(t *testing.T) {
	tests := map[string]struct {
		token   string
		scripts [][]step
		asks    []string
		gets    []int64
		fails   codes.Code
	}{
		"a whole watch": {
			scripts: [][]step{{snapshot(job, 3), change(job, 4), done(job, 9)}},
			asks:    []string{""},
			gets:    []int64{3, 4, 9},
		},
		"a cut after a heartbeat": {
			scripts: [][]step{{snapshot(job, 1), beat(7, time.Minute), cut}, {change(job, 8), done(job, 9)}},
			asks:    []string{"", "7"},
			gets:    []int64{1, 8, 9},
		},
		"a snapshot that comes again": {
			scripts: [][]step{{snapshot(job, 5), cut}, {snapshot(job, 5), done(job, 6)}},
			asks:    []string{"", "5"},
			gets:    []int64{5, 6},
		},
		"an end before the last event": {
			scripts: [][]step{{snapshot(job, 1)}, {done(job, 2)}},
			asks:    []string{"", "1"},
			gets:    []int64{1, 2},
		},
		"a cut after the final event": {
			scripts: [][]step{{done(job, 1), cut}},
			asks:    []string{""},
			gets:    []int64{1},
		},
		"an end whose OK never comes": {
			scripts: [][]step{{beat(0, 50*time.Millisecond), done(job, 1), hang}},
			asks:    []string{""},
			gets:    []int64{1},
		},
		"a caller's token": {
			token:   "3",
			scripts: [][]step{{done(job, 4)}},
			asks:    []string{"3"},
			gets:    []int64{4},
		},
		"a caller's token of the end": {
			token:   "7",
			scripts: [][]step{{}},
			asks:    []string{"7"},
		},
		"a caller's token that is too old": {
			token:   "1",
			scripts: [][]step{{compacted}},
			asks:    []string{"1"},
			fails:   codes.OutOfRange,
		},
		"a token of its own that is too old": {
			scripts: [][]step{{snapshot(job, 1), cut}, {compacted}, {event(pb.JobEvent_TYPE_SNAPSHOT, job, 7, pb.JobStatus_JOB_STATUS_DONE)}},
			asks:    []string{"", "1", ""},
			gets:    []int64{1, 7},
		},
		"a token of another gateway": {
			token:   "1",
			scripts: [][]step{{failure(codes.InvalidArgument, reason("INVALID_RESUME_TOKEN"))}},
			asks:    []string{"1"},
			fails:   codes.InvalidArgument,
		},
		"no such job":   {scripts: [][]step{{failure(codes.NotFound)}}, asks: []string{""}, fails: codes.NotFound},
		"a proxy's cut": {scripts: [][]step{{failure(codes.Internal)}, {done(job, 1)}}, asks: []string{"", ""}, gets: []int64{1}},
		"a deletion": {
			scripts: [][]step{{snapshot(job, 1), event(pb.JobEvent_TYPE_DELETED, job, 2, pb.JobStatus_JOB_STATUS_QUEUED)}},
			asks:    []string{""},
			gets:    []int64{1, 2},
		},
		"what only a newer gateway sends": {
			scripts: [][]step{{{token: "1"}, done(job, 2)}},
			asks:    []string{""},
			gets:    []int64{2},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway, client := serve(t, test.scripts...)
			var got []int64
			var failed error
			for change, err := range client.Job(patience(t), job, watch.Options{Token: test.token}) {
				if failed = err; err == nil {
					got = append(got, change.Event.GetRevision())
				}
			}
			if status.Code(failed) != test.fails {
				t.Errorf("it ended with %v, and not with %v", failed, test.fails)
			}
			if !slices.Equal(got, test.gets) {
				t.Errorf("the caller got %v, and not %v", got, test.gets)
			}
			if asks := gateway.tokens(); !slices.Equal(asks, test.asks) {
				t.Errorf("it asked after %q, and not %q", asks, test.asks)
			}
		})
	}
}

func TestEachEventOfManyJobsComesOnce(t *testing.T) {
	tests := map[string]struct {
		scripts [][]step
		asks    []string
		gets    []string
	}{
		"a stream that ends": {
			scripts: [][]step{{beat(0, time.Minute), change("a", 1), change("b", 2)}, {change("a", 4)}},
			asks:    []string{"", "2"},
			gets:    []string{"a1", "b2", "a4"},
		},
		"a slow first stream whose history goes": {
			scripts: [][]step{{change("a", 1), compacted}, {snapshot("b", 4).before(1), beat(5, time.Minute), change("a", 6)}},
			asks:    []string{"", "1"},
			gets:    []string{"a1", "b4", "a6"},
		},
		"nothing that matches before a cut": {
			scripts: [][]step{{beat(5, time.Minute), beat(9, time.Minute), cut}, {change("a", 9+1)}},
			asks:    []string{"", "9"},
			gets:    []string{"a:"},
		},
		"a snapshot that is cut": {
			scripts: [][]step{
				{change("a", 1), change("b", 2), cut},
				{snapshot("c", 7).before(2), snapshot("b", 2).before(2), cut},
				{snapshot("c", 7).before(2), snapshot("b", 2).before(2), snapshot("a", 4).before(2), beat(5, time.Minute),
					change("d", 6), change("c", 7), change("a", 8)},
			},
			asks: []string{"", "2", "2"},
			gets: []string{"a1", "b2", "c7", "a4", "d6", "a8"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway, client := serve(t, test.scripts...)
			var got []string
			for change, err := range client.Jobs(patience(t), nil, watch.Options{}) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, change.Event.GetJob().GetName()+token(change.Event.GetRevision()))
				if len(got) == len(test.gets) {
					break
				}
			}
			if !slices.Equal(got, test.gets) {
				t.Errorf("the caller got %v, and not %v", got, test.gets)
			}
			if asks := gateway.tokens(); !slices.Equal(asks, test.asks) {
				t.Errorf("it asked after %q, and not %q", asks, test.asks)
			}
		})
	}
}

func TestASilentConnectionIsLeft(t *testing.T) {
	gateway, client := serve(t, []step{snapshot(job, 1), beat(2, 50*time.Millisecond), hang}, []step{done(job, 3)})
	begin := time.Now()
	for _, err := range client.Job(patience(t), job, watch.Options{}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begin); took < 100*time.Millisecond {
		t.Errorf("it waited %v only", took)
	}
	if gateway.tokens()[1] != "2" || !gateway.asked[1].snapshot || gateway.asked[0].snapshot {
		t.Errorf("it asked %+v", gateway.asked)
	}
	if gateway.asked[0].peer == gateway.asked[1].peer {
		t.Error("it used the dead connection again")
	}
}

func TestTimeThatTheCallerTakesIsNoSilence(t *testing.T) {
	gateway, client := serve(t, []step{beat(0, 20*time.Millisecond), snapshot(job, 1), done(job, 2)})
	for _, err := range client.Job(patience(t), job, watch.Options{}) {
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if len(gateway.asked) != 1 {
		t.Errorf("it asked %+v", gateway.asked)
	}
}

func TestTheGatewaySaysHowLongToWait(t *testing.T) {
	wait := 300 * time.Millisecond
	full := failure(codes.ResourceExhausted, &errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
	gateway, client := serve(t, []step{full}, []step{done(job, 1)})
	for _, err := range client.Job(patience(t), job, watch.Options{}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if waited := gateway.asked[1].at.Sub(gateway.asked[0].at); waited < wait {
		t.Errorf("it waited %v only", waited)
	}
}

func TestTheCallersDeadlineEndsAWatchOfOneJobWithAnError(t *testing.T) {
	_, silent := serve(t, []step{snapshot(job, 1), hang})
	for name, client := range map[string]*watch.Client{"a silent stream": silent, "no gateway": clientOf(t, "127.0.0.1:1")} {
		ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
		defer cancel()
		var last error
		for _, err := range client.Job(ctx, job, watch.Options{}) {
			last = err
		}
		if !errors.Is(last, context.DeadlineExceeded) {
			t.Errorf("%s: it ended with %v", name, last)
		}
	}
}

func TestAWatchOfManyJobsEndsWithItsContext(t *testing.T) {
	_, client := serve(t, []step{change("a", 1), hang})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, err := range client.Jobs(ctx, nil, watch.Options{}) {
		if err != nil {
			t.Fatal(err)
		}
		cancel()
	}
}

func TestThePlaceInTheQueueIsToldWhenItChanges(t *testing.T) {
	place := func(position int32) step {
		s := beat(1, time.Minute)
		s.heartbeat.Queue = &pb.QueueInfo{Position: &position}
		return s
	}
	_, client := serve(t, []step{place(2), place(2), place(1), done(job, 1)})
	var places []int32
	options := watch.Options{Queue: func(queue *pb.QueueInfo) { places = append(places, queue.GetPosition()) }}
	for _, err := range client.Job(patience(t), job, options) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(places, []int32{2, 1}) {
		t.Errorf("the caller was told %v", places)
	}
}

func TestAClosedClientFollowsNothing(t *testing.T) {
	_, client := serve(t)
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	for _, err := range client.Job(patience(t), job, watch.Options{}) {
		if status.Code(err) != codes.FailedPrecondition {
			t.Errorf("it ended with %v", err)
		}
	}
}
