// A small app on MSAL for Go with its extension, and on Azure Identity with its
// persistent cache.
//
// Usage: apps msal VERB CACHE [COUNT], with the verbs of app.py;
// apps azidentity VERB RECORD, with login and use: it chooses the place of its
// cache by itself, and remembers in RECORD who signed in; apps race, see race.go.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	identitycache "github.com/Azure/azure-sdk-for-go/sdk/azidentity/cache"
	"github.com/AzureAD/microsoft-authentication-extensions-for-go/cache"
	"github.com/AzureAD/microsoft-authentication-extensions-for-go/cache/accessor/file"
	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/public"
)

const scope = "https://management.azure.com/.default"

func main() {
	f := map[string]func([]string) error{"msal": msal, "azidentity": identity, "version": version, "race": race}[os.Args[1]]
	if err := f(os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func version([]string) error {
	info, _ := debug.ReadBuildInfo()
	for _, d := range info.Deps {
		if strings.Contains(d.Path, "AzureAD/") || strings.Contains(d.Path, "azidentity") {
			_, name, _ := strings.Cut(strings.TrimPrefix(d.Path, "github.com/"), "/")
			fmt.Println(name, d.Version)
		}
	}
	return nil
}

func ask(token string) error {
	r, err := http.NewRequest("GET", "https://management.azure.com/subscriptions", nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New("the Resource Manager says " + answer.Status)
	}
	return nil
}

func msal(args []string) error {
	verb, path := args[0], args[1]
	storage, err := file.New(path)
	if err != nil {
		return err
	}
	persisted, err := cache.New(storage, path)
	if err != nil {
		return err
	}
	app, err := public.New("00000000-0000-4000-8000-0000000000dd",
		public.WithAuthority("https://login.microsoftonline.com/organizations"), public.WithCache(persisted))
	if err != nil {
		return err
	}
	ctx := context.Background()
	if verb == "login" {
		count := 1
		if len(args) > 2 {
			if count, err = strconv.Atoi(args[2]); err != nil {
				return err
			}
		}
		for range count {
			code, err := app.AcquireTokenByDeviceCode(ctx, []string{scope})
			if err != nil {
				return err
			}
			if _, err := code.AuthenticationResult(ctx); err != nil {
				return err
			}
		}
		return nil
	}
	accounts, err := app.Accounts(ctx)
	if err != nil {
		return err
	}
	if verb == "count" {
		fmt.Println(len(accounts))
		return nil
	}
	if len(accounts) == 0 {
		return errors.New("not signed in: no account in the cache")
	}
	for _, a := range accounts {
		if verb == "logout" {
			err = app.RemoveAccount(ctx, a)
		} else {
			var result public.AuthResult
			if result, err = app.AcquireTokenSilent(ctx, []string{scope}, public.WithSilentAccount(a)); err == nil {
				err = ask(result.AccessToken)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func identity(args []string) error {
	verb, path := args[0], args[1]
	persisted, err := identitycache.New(nil)
	if err != nil {
		return err
	}
	options := &azidentity.DeviceCodeCredentialOptions{
		Cache:                          persisted,
		ClientID:                       "00000000-0000-4000-8000-0000000000ee",
		DisableAutomaticAuthentication: verb != "login",
		UserPrompt:                     func(context.Context, azidentity.DeviceCodeMessage) error { return nil },
	}
	if verb == "use" {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(b, &options.AuthenticationRecord); err != nil {
			return err
		}
	}
	credential, err := azidentity.NewDeviceCodeCredential(options)
	if err != nil {
		return err
	}
	ctx, wanted := context.Background(), policy.TokenRequestOptions{Scopes: []string{scope}}
	if verb == "login" {
		record, err := credential.Authenticate(ctx, &wanted)
		if err != nil {
			return err
		}
		b, err := json.Marshal(record)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			return err
		}
	}
	token, err := credential.GetToken(ctx, wanted)
	if err != nil {
		return err
	}
	return ask(token.Token)
}
