package watch

import (
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "qgateway.internal/go/qgatewayv1"
)

// Client follows jobs of one gateway. Its watches share a connection, which is made anew where it has fallen silent: gRPC by itself
// would go on using it for minutes. It is safe for concurrent use.
type Client struct {
	dial func() (*grpc.ClientConn, error)

	mu      sync.Mutex
	current *connection // nil if the next watch has to make one
	closed  bool
}

// connection is one that watches share.
type connection struct {
	conn    *grpc.ClientConn
	jobs    pb.JobServiceClient
	streams int
	retired bool
}

// New returns a client that makes its connections with dial, such as a call of grpc.NewClient.
func New(dial func() (*grpc.ClientConn, error)) *Client {
	return &Client{dial: dial}
}

// Close ends the client: each of its watches ends with an error when its stream does. End them first, by their contexts.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.current == nil {
		return nil
	}
	conn := c.current.conn
	c.current = nil
	return conn.Close()
}

// acquire returns the connection to open a stream on.
func (c *Client) acquire() (*connection, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, status.Error(codes.FailedPrecondition, "the client is closed")
	}
	if c.current == nil {
		conn, err := c.dial()
		if err != nil {
			// What cannot be dialled is configured wrongly: a connection is made later, by the first call.
			return nil, status.Errorf(codes.InvalidArgument, "cannot connect: %v", err)
		}
		c.current = &connection{conn: conn, jobs: pb.NewJobServiceClient(conn)}
	}
	c.current.streams++
	// The watch has waited already: it must not wait once more for gRPC, whose own pauses grow to two minutes.
	c.current.conn.ResetConnectBackoff()
	return c.current, nil
}

// retire lets no further stream begin on a connection. Of many watches that find it dead, the first one does so.
func (c *Client) retire(dead *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	dead.retired = true
	if c.current == dead {
		c.current = nil
	}
}

// release closes a retired connection with its last stream: others on it may be alive after all.
func (c *Client) release(used *connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if used.streams--; used.streams == 0 && used.retired {
		_ = used.conn.Close()
	}
}
