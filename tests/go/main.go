// A client of Epistream in Go, made of nothing but the code that the repository's protos generate: go run . HOST:PORT NAMESPACE
//
// It makes a namespace, subscribes to it, submits an item, reads it and searches for it, waits until the change is pushed to it, and prints
// what it saw as one JSON object.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "client/epistream/v1"
)

const (
	timeout   = 30 * time.Second
	dimension = 4
	itemID    = "water"
	content   = "Water boils at 100 °C at sea level."
)

// seen is what the client prints.
type seen struct {
	Outcome       string  `json:"outcome"`
	Revision      uint64  `json:"revision"`
	Content       string  `json:"content"`
	Hit           string  `json:"hit"`
	Similarity    float64 `json:"similarity"`
	PushedItem    string  `json:"pushed_item"`
	PushedVersion uint64  `json:"pushed_version"`
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: client HOST:PORT NAMESPACE")
		os.Exit(2)
	}
	found, err := run(os.Args[1], os.Args[2])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(found)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(address, namespace string) (*seen, error) {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := create(ctx, pb.NewNamespaceServiceClient(connection), namespace); err != nil {
		return nil, fmt.Errorf("CreateNamespace: %w", err)
	}
	changes, err := subscribe(ctx, pb.NewSyncServiceClient(connection), namespace)
	if err != nil {
		return nil, fmt.Errorf("Subscribe: %w", err)
	}
	found := &seen{}
	if err := submit(ctx, pb.NewIngestServiceClient(connection), namespace, found); err != nil {
		return nil, fmt.Errorf("Submit: %w", err)
	}
	if err := ask(ctx, pb.NewKnowledgeServiceClient(connection), namespace, found); err != nil {
		return nil, fmt.Errorf("asking: %w", err)
	}
	if err := await(changes, found); err != nil {
		return nil, fmt.Errorf("waiting for the change: %w", err)
	}
	return found, nil
}

func create(ctx context.Context, namespaces pb.NamespaceServiceClient, name string) error {
	encoder := &pb.Encoder{Model: "none", Dimension: dimension}
	_, err := namespaces.CreateNamespace(ctx, &pb.CreateNamespaceRequest{Name: name, Encoder: encoder})
	return err
}

func subscribe(ctx context.Context, sync pb.SyncServiceClient, namespace string) (pb.SyncService_SubscribeClient, error) {
	stream, err := sync.Subscribe(ctx)
	if err != nil {
		return nil, err
	}
	subscription := &pb.Subscription{
		Namespace: namespace,
		Consumer:  "go",
		Start:     &pb.Subscription_AfterRevision{AfterRevision: 0},
	}
	message := &pb.SubscribeRequest{Message: &pb.SubscribeRequest_Subscribe{Subscribe: subscription}}
	if err := stream.Send(message); err != nil {
		return nil, err
	}
	return stream, stream.CloseSend()
}

func submit(ctx context.Context, ingest pb.IngestServiceClient, namespace string, found *seen) error {
	submission := &pb.Submission{
		Namespace:    namespace,
		SubmissionId: "s-1",
		ItemId:       itemID,
		Origin:       pb.Origin_ORIGIN_EXPERT,
		Modality:     pb.Modality_MODALITY_TEXT,
		Content:      content,
		Provenance:   &pb.Provenance{Producer: "go"},
		Embedding:    &pb.Embedding{Values: vector()},
	}
	response, err := ingest.Submit(ctx, &pb.SubmitRequest{Submissions: []*pb.Submission{submission}})
	if err != nil {
		return err
	}
	receipts := response.GetReceipts()
	if len(receipts) != 1 {
		return fmt.Errorf("expected one receipt, found %d", len(receipts))
	}
	found.Outcome, found.Revision = receipts[0].GetOutcome().String(), receipts[0].GetRevision()
	return nil
}

func ask(ctx context.Context, knowledge pb.KnowledgeServiceClient, namespace string, found *seen) error {
	item, err := knowledge.Get(ctx, &pb.GetRequest{Namespace: namespace, ItemId: itemID})
	if err != nil {
		return err
	}
	found.Content = item.GetChange().GetKnowledge().GetContent()
	query := &pb.SearchRequest_Vector{Vector: &pb.Embedding{Values: vector()}}
	answer, err := knowledge.Search(ctx, &pb.SearchRequest{Namespace: namespace, Query: query, Limit: 3})
	if err != nil {
		return err
	}
	if len(answer.GetHits()) == 0 {
		return errors.New("the search found nothing")
	}
	nearest := answer.GetHits()[0]
	found.Hit, found.Similarity = nearest.GetChange().GetItemId(), nearest.GetSimilarity()
	return nil
}

func await(stream pb.SyncService_SubscribeClient, found *seen) error {
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, change := range message.GetChanges().GetChanges() {
			if change.GetRevision() == found.Revision {
				found.PushedItem, found.PushedVersion = change.GetItemId(), change.GetVersion()
				return nil
			}
		}
	}
}

func vector() []float32 {
	return []float32{1, 2, 2, 0}
}
