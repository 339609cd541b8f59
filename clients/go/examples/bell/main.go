// Command bell runs a Bell pair, written in OpenQASM 3, through a gateway on this machine and prints the counts.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	pb "qgateway.internal/go/qgatewayv1"
	"qgateway.internal/go/watch"
)

const bell = `OPENQASM 3.0;
include "stdgates.inc";
qubit[2] q;
bit[2] c;
h q[0];
cx q[0], q[1];
c = measure q;
`

func main() {
	dial := func() (*grpc.ClientConn, error) {
		return grpc.NewClient(os.Getenv("QGATEWAY_TARGET"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	}
	connection, err := dial()
	check(err)
	jobs := pb.NewJobServiceClient(connection)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+os.Getenv("QGATEWAY_API_KEY"))

	circuits := []*pb.OpenQasmCircuit{{Source: bell}}
	submitted, err := jobs.SubmitJob(ctx, &pb.SubmitJobRequest{
		Source: &pb.SubmitJobRequest_Program{Program: &pb.Program{
			Kind: &pb.Program_Openqasm{Openqasm: &pb.OpenQasmProgram{Circuits: circuits}},
		}},
		Backend: "local_simulator",
		Options: &pb.RunOptions{Shots: proto.Int64(1000)},
	})
	check(err)
	job := submitted.GetJob()

	// It goes on until the job is final, through cuts and restarts of the gateway.
	for change, err := range watch.New(dial).Job(ctx, job.GetName(), watch.Options{}) {
		check(err)
		job = change.Event.GetJob()
		fmt.Println(job.GetName(), job.GetStatus())
	}
	if job.GetStatus() != pb.JobStatus_JOB_STATUS_DONE {
		log.Fatalf("%s: %s", job.GetStatus(), job.GetFailure().GetMessage())
	}

	read, err := jobs.GetJobResult(ctx, &pb.GetJobResultRequest{Name: job.GetName(), IncludeCounts: true, OmitShots: true})
	check(err)
	for outcome, count := range read.GetResult().GetExperiments()[0].GetCounts() {
		fmt.Println(outcome, count)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
