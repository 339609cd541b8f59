// Package watch follows jobs of a gateway: each event comes once and in order, whatever happens to connections and servers.
//
// A stream that breaks is taken up again after the last event that it brought, after a pause that grows and is never the same for
// two clients. One that falls silent is left together with its connection. docs/watch-protocol.md has the rules.
package watch

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc"

	pb "qgateway.internal/go/qgatewayv1"
)

// Options of a watch. The zero value begins with the current state of the job; a watch of many jobs begins from now on.
type Options struct {
	// Token of the last Change that was dealt with, in an earlier watch of the same job or filter.
	Token string
	// Queue, if not nil, is called when the place of the job in its queue has changed.
	Queue func(*pb.QueueInfo)
}

// Change is an event of a job.
type Change struct {
	// Event is the change, with the job after it; or, where its type is SNAPSHOT, the current state.
	Event *pb.JobEvent
	// Token to go on after this change in a later watch. Store it when the change was dealt with.
	Token string
}

// errSilent is why a stream was cancelled on which nothing came.
var errSilent = errors.New("nothing came")

// Job follows one job until it is final.
//
// The context is that of all calls: its metadata carry the API key. Its end ends the watch with its error. Any other error is of the
// gateway, and comes last: it refuses the watch.
func (c *Client) Job(ctx context.Context, name string, options Options) iter.Seq2[Change, error] {
	return c.follow(ctx, true, options, func(ctx context.Context, jobs pb.JobServiceClient, token string, gap pb.OnCompacted) (receive, error) {
		request := &pb.WatchJobRequest{Name: name, ResumeToken: token, OnCompacted: gap}
		return receiver(jobs.WatchJob(ctx, request))
	})
}

// Jobs follows all jobs that match a filter, until the context ends, which is no error here. Otherwise it is like Job.
func (c *Client) Jobs(ctx context.Context, filter *pb.JobFilter, options Options) iter.Seq2[Change, error] {
	return c.follow(ctx, false, options, func(ctx context.Context, jobs pb.JobServiceClient, token string, gap pb.OnCompacted) (receive, error) {
		request := &pb.WatchJobsRequest{Filter: filter, ResumeToken: token, OnCompacted: gap}
		return receiver(jobs.WatchJobs(ctx, request))
	})
}

// receive returns the next message of a stream.
type receive func() (update, error)

// open begins a stream after a token.
type open func(ctx context.Context, jobs pb.JobServiceClient, token string, gap pb.OnCompacted) (receive, error)

func receiver[T any, P interface {
	*T
	update
}](stream grpc.ServerStreamingClient[T], err error) (receive, error) {
	return func() (update, error) {
		message, err := stream.Recv()
		return P(message), err
	}, err
}

func (c *Client) follow(ctx context.Context, oneJob bool, options Options, open open) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		s := newState(oneJob, options.Token)
		deliver := func(message update) bool {
			event, queue := s.received(message, time.Now())
			if queue != nil && options.Queue != nil {
				options.Queue(queue)
			}
			return event == nil || yield(Change{event, s.token}, nil)
		}
		for {
			broken := c.read(ctx, s, open, deliver)
			if broken == nil || s.final {
				return
			}
			if ctx.Err() == nil {
				delay, refused := s.interrupted(broken)
				if refused != nil {
					yield(Change{}, refused)
					return
				}
				sleep(ctx, delay)
			}
			if ctx.Err() != nil {
				if oneJob { // It is not final.
					yield(Change{}, context.Cause(ctx))
				}
				return
			}
		}
	}
}

// read delivers what one stream brings. It returns nil when nothing is left to be read, or nobody wants more.
func (c *Client) read(ctx context.Context, s *state, open open, deliver func(update) bool) error {
	connection, err := c.acquire()
	if err != nil {
		return err
	}
	defer c.release(connection)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	gap := s.opening(time.Now())
	silence := time.AfterFunc(s.silence(), func() { cancel(errSilent) })
	defer silence.Stop()
	receive, err := open(ctx, connection.jobs, s.token, gap)
	for err == nil {
		var message update
		if message, err = receive(); err == nil {
			silence.Stop() // The caller takes the time that it needs.
			if !deliver(message) {
				return nil
			}
			silence.Reset(s.silence())
		}
	}
	switch {
	case errors.Is(err, io.EOF):
		return s.ended()
	case errors.Is(context.Cause(ctx), errSilent):
		c.retire(connection)
		return s.silent()
	}
	return err
}

func sleep(ctx context.Context, delay time.Duration) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
