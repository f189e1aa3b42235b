// A page that shows what the platform gave this dyno.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

func or(name, fallback string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return fallback
}

func main() {
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()

	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		host, _ := os.Hostname()
		fmt.Fprintf(w, "%s\n%s (%s) on %s\n", or("GREETING", "Hello from Deodar"),
			or("DYNO", "no dyno"), or("HEROKU_RELEASE_VERSION", "no release"), host)
	})
	server := &http.Server{Addr: ":" + or("PORT", "8080")}
	go func() {
		<-stop.Done()
		log.Print("stopping in peace")
		server.Shutdown(context.Background())
	}()
	log.Printf("listening on %s", server.Addr)
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
}
