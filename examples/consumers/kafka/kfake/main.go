// Command kfake is an in-memory Kafka for trying the example.
package main

import (
	"fmt"
	"log"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/gracefulgo/graceful/quit"
)

func main() {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(9092),
		kfake.SeedTopics(4, "orders"))
	if err != nil {
		log.Fatal(err)
	}
	quit.GetQuitEvent().RegisterStopFunc(cluster.Close)
	fmt.Println("listening on", cluster.ListenAddrs()[0])
	if err := quit.WaitSignal(); err != nil {
		log.Fatal(err)
	}
}
