package watch

import (
	"math/rand/v2"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "qgateway.internal/go/qgatewayv1"
)

const (
	firstDelay   = 100 * time.Millisecond
	longestDelay = 5 * time.Second
	// How often in a row an error is taken for a broken connection that could as well be a bug of the server.
	maxDoubtful = 8

	// Silence that is borne before a heartbeat has told the interval: doubled each time it was too short.
	firstSilence   = 30 * time.Second
	longestSilence = 10 * time.Minute
	// Silence that is borne at least before the first message of a stream: a connection may have to be made.
	openingSilence = 10 * time.Second
	// Silence that is borne after the final event.
	lastSilence = 5 * time.Second
)

// update is one message of either stream.
type update interface {
	GetEvent() *pb.JobEvent
	GetHeartbeat() *pb.WatchHeartbeat
	GetResumeToken() string
}

// state is what a watch knows, and what follows from each thing that happens to it: the rules of docs/watch-protocol.md, without
// I/O and without a clock.
type state struct {
	oneJob   bool
	token    string
	own      bool // the token was received in this watch
	asked    bool // the stream was opened for states in place of history that is gone
	last     int64
	states   map[string]int64
	final    bool
	interval time.Duration // 0 until a heartbeat has told it
	borne    time.Duration
	failures int
	opened   time.Time
	quiet    bool // the stream has not brought anything yet
	queue    *pb.QueueInfo
}

func newState(oneJob bool, token string) *state {
	return &state{oneJob: oneJob, token: token, states: map[string]int64{}, borne: firstSilence}
}

// opening begins the next stream. It returns what to do where the history after the token is gone: whoever brings a token has to
// learn of the gap; one of this watch's own is closed by the current state.
func (s *state) opening(now time.Time) pb.OnCompacted {
	s.opened, s.quiet, s.asked = now, true, s.own
	if s.asked {
		return pb.OnCompacted_ON_COMPACTED_SNAPSHOT
	}
	return pb.OnCompacted_ON_COMPACTED_ERROR
}

// silence returns how long to wait for the next message before the connection is taken for dead.
func (s *state) silence() time.Duration {
	borne := s.borne
	if s.interval > 0 {
		borne = 2 * s.interval
	}
	switch {
	case s.final:
		return min(borne, lastSilence)
	case s.quiet:
		return max(borne, openingSilence)
	}
	return borne
}

// silent takes in that nothing came for so long, and returns the error of the stream.
func (s *state) silent() error {
	silence := s.silence()
	if s.interval == 0 {
		s.borne = min(2*s.borne, longestSilence)
	}
	return status.Errorf(codes.Unavailable, "the stream was silent for %v", silence)
}

// received takes a message in. It returns the event if it is news, and the place in the queue if it has changed.
func (s *state) received(message update, now time.Time) (*pb.JobEvent, *pb.QueueInfo) {
	s.quiet = false
	if now.Sub(s.opened) >= longestDelay {
		s.failures = 0
	}
	if token := message.GetResumeToken(); token != "" {
		s.token, s.own = token, true
	}
	if heartbeat := message.GetHeartbeat(); heartbeat != nil {
		if interval := heartbeat.GetInterval().AsDuration(); interval > 0 {
			s.interval = interval
		}
		if queue := heartbeat.GetQueue(); queue != nil && !proto.Equal(queue, s.queue) {
			s.queue = queue
			return nil, queue
		}
	}
	event := message.GetEvent()
	if event == nil || !s.isNews(event) {
		return nil, nil
	}
	s.failures = 0
	s.final = s.oneJob && (isFinal(event.GetJob().GetStatus()) || event.GetType() == pb.JobEvent_TYPE_DELETED)
	return event, nil
}

// isNews takes note of an event, and returns whether the caller has not had it yet. Events come in the order of their revisions;
// the parts of a snapshot come in any order before the events after it, and again if the stream breaks in their midst.
func (s *state) isNews(event *pb.JobEvent) bool {
	job, revision := event.GetJob().GetName(), event.GetRevision()
	if revision <= max(s.last, s.states[job]) {
		return false
	}
	if event.GetType() == pb.JobEvent_TYPE_SNAPSHOT {
		s.states[job] = revision
		return true
	}
	s.last = revision
	for each, state := range s.states {
		if state <= revision {
			delete(s.states, each)
		}
	}
	return true
}

// ended takes in that the server ended the stream with OK. It returns an error if there is more to come.
func (s *state) ended() error {
	if s.oneJob && (s.final || (s.quiet && s.token != "" && !s.own)) {
		return nil
	}
	return status.Error(codes.Unavailable, "the server ended the stream before the watch was over")
}

// interrupted takes in how the stream broke. It returns how long to wait before the next one, or the error itself if that does
// not help.
func (s *state) interrupted(broken error) (time.Duration, error) {
	reason, retryAfter := details(broken)
	switch code := status.Code(broken); {
	case reason == "HISTORY_COMPACTED" && s.own && s.oneJob:
		s.token, s.own = "", false
	case reason == "HISTORY_COMPACTED" && s.own && !s.asked:
		// The first stream fell behind: the next one asks for states.
	case code == codes.Unavailable || code == codes.ResourceExhausted:
	case isDoubtful(code) && s.failures < maxDoubtful:
	default:
		return 0, broken
	}
	delay := retryAfter + rand.N(min(longestDelay, firstDelay<<min(s.failures, 16)))
	s.failures++
	return delay, nil
}

func isFinal(status pb.JobStatus) bool {
	switch status {
	case pb.JobStatus_JOB_STATUS_DONE, pb.JobStatus_JOB_STATUS_CANCELLED, pb.JobStatus_JOB_STATUS_ERROR:
		return true
	}
	return false
}

// isDoubtful returns whether a connection that is cut can look like this.
func isDoubtful(code codes.Code) bool {
	switch code {
	case codes.Internal, codes.Unknown, codes.Canceled, codes.DeadlineExceeded:
		return true
	}
	return false
}

// details returns the reason of an error of the gateway, and the time after which it wants to be asked again.
func details(err error) (reason string, retryAfter time.Duration) {
	for _, detail := range status.Convert(err).Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			reason = detail.GetReason()
		case *errdetails.RetryInfo:
			retryAfter = detail.GetRetryDelay().AsDuration()
		}
	}
	return reason, retryAfter
}
