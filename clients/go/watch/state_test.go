package watch

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "qgateway.internal/go/qgatewayv1"
)

func heartbeat(interval time.Duration) update {
	beat := &pb.WatchHeartbeat{Interval: durationpb.New(interval)}
	return &pb.WatchJobResponse{Update: &pb.WatchJobResponse_Heartbeat{Heartbeat: beat}, ResumeToken: "t"}
}

func TestWhatMayBeABugIsBelievedAfterEightFailuresInARow(t *testing.T) {
	s := newState(true, "")
	for n := range maxDoubtful {
		if _, err := s.interrupted(status.Error(codes.Internal, "")); err != nil {
			t.Fatalf("failure %d was taken for a bug", n+1)
		}
	}
	if _, err := s.interrupted(status.Error(codes.Internal, "")); status.Code(err) != codes.Internal {
		t.Errorf("it went on: %v", err)
	}
}

func TestPausesGrowToFiveSecondsAndAreNeverTheSame(t *testing.T) {
	cut := status.Error(codes.Unavailable, "")
	longest, seen := time.Duration(0), map[time.Duration]bool{}
	s := newState(false, "")
	for range 1000 {
		before := s.failures
		delay, err := s.interrupted(cut)
		if err != nil || delay < 0 || delay > longestDelay {
			t.Fatalf("it waits %v, %v", delay, err)
		}
		if before == 0 && delay > firstDelay {
			t.Errorf("it waits %v at first", delay)
		}
		longest, seen[delay] = max(longest, delay), true
	}
	if longest < longestDelay/2 || len(seen) < 900 {
		t.Errorf("of 1000 pauses the longest was %v, and %d were different", longest, len(seen))
	}
}

func TestAHeartbeatAloneIsNoProgressBeforeFiveSeconds(t *testing.T) {
	s, now := newState(true, ""), time.Now()
	_, _ = s.interrupted(status.Error(codes.Unavailable, ""))
	s.opening(now)
	if s.received(heartbeat(time.Second), now.Add(time.Second)); s.failures != 1 {
		t.Errorf("%d failures after a second", s.failures)
	}
	if s.received(heartbeat(time.Second), now.Add(longestDelay)); s.failures != 0 {
		t.Errorf("%d failures after five seconds", s.failures)
	}
}

func TestHowLongASilenceIsBorne(t *testing.T) {
	s, now := newState(true, ""), time.Now()
	expect := func(expected time.Duration) {
		t.Helper()
		if borne := s.silence(); borne != expected {
			t.Errorf("%v are borne, and not %v", borne, expected)
		}
	}
	s.opening(now)
	expect(firstSilence)
	_ = s.silent()
	expect(2 * firstSilence)
	for range 10 {
		_ = s.silent()
	}
	expect(longestSilence)
	s.received(heartbeat(time.Second), now)
	expect(2 * time.Second)
	s.opening(now)
	expect(openingSilence)
	s.received(heartbeat(time.Minute), now)
	expect(2 * time.Minute)
	s.final = true
	expect(lastSilence)
}
