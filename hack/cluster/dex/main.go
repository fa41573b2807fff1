// A Dex with clients and people that a file lists: an OpenID Connect provider for tests.
//
// It is Dex's own server without its administration by gRPC, whose module of the same commit is not published.
package main

import (
	"context"
	"encoding/json"
	"log"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/dexidp/dex/server"
	"github.com/dexidp/dex/server/connectors"
	"github.com/dexidp/dex/server/signer"
	"github.com/dexidp/dex/server/tokens"
	"github.com/dexidp/dex/storage"
	"github.com/dexidp/dex/storage/memory"
)

const tokenLifetime = time.Hour

type settings struct {
	Issuer  string             `json:"issuer"`
	Address string             `json:"address"`
	Clients []storage.Client   `json:"clients"`
	People  []storage.Password `json:"people"`
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: dex SETTINGS.json")
	}
	if err := serve(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func serve(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var given settings
	if err := json.Unmarshal(content, &given); err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	store := memory.New(logger)
	store = storage.WithStaticClients(store, given.Clients)
	store = storage.WithStaticPasswords(store, given.People, logger)
	local := storage.Connector{ID: connectors.LocalConnector, Name: "Email", Type: connectors.LocalConnector}
	store = storage.WithStaticConnectors(store, []storage.Connector{local})
	keys, err := (&signer.LocalConfig{KeysRotationPeriod: "6h"}).Open(
		context.Background(), store, tokenLifetime, time.Now, logger)
	if err != nil {
		return err
	}
	refresh, err := tokens.NewRefreshTokenPolicy(logger, false, "", "", "")
	if err != nil {
		return err
	}
	handler, err := server.NewServer(context.Background(), server.Config{
		Issuer:             given.Issuer,
		Storage:            store,
		SkipApprovalScreen: true,
		IDTokensValidFor:   tokenLifetime,
		RefreshTokenPolicy: refresh,
		Signer:             keys,
		Logger:             logger,
	})
	if err != nil {
		return err
	}
	return http.ListenAndServe(given.Address, handler)
}
