// Vault's own Go client, used as a program that knows nothing of claviger would: the address of its argument, and no token.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/hashicorp/vault/api"
)

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

func check(what string, right bool) {
	if !right {
		fmt.Fprintln(os.Stderr, "wrong:", what)
		os.Exit(1)
	}
	fmt.Println(what)
}

func main() {
	config := api.DefaultConfig()
	config.Address = os.Args[1]
	client := must(api.NewClient(config))
	ctx := context.Background()

	kv := client.KVv2("secret")
	written := must(kv.Put(ctx, "go/app", map[string]any{"user": "me"}))
	check("kv put", written.VersionMetadata.Version == 1)
	must(kv.Patch(ctx, "go/app", map[string]any{"pass": "one"}))
	read := must(kv.Get(ctx, "go/app"))
	check("kv get", read.Data["user"] == "me" && read.Data["pass"] == "one")
	check("kv get version", must(kv.GetVersion(ctx, "go/app", 1)).Data["pass"] == nil)
	check("kv metadata", must(kv.GetMetadata(ctx, "go/app")).CurrentVersion == 2)

	listed := must(client.Logical().ListWithContext(ctx, "secret/metadata/go"))
	check("list", len(listed.Data["keys"].([]any)) == 1)
	must(client.Logical().WriteWithContext(ctx, "old/go", map[string]any{"k": "v"}))
	check("write and read", must(client.Logical().ReadWithContext(ctx, "old/go")).Data["k"] == "v")
	must(client.Logical().DeleteWithContext(ctx, "old/go"))
	check("nothing there", must(client.Logical().ReadWithContext(ctx, "old/go")) == nil)
	if err := kv.DeleteMetadata(ctx, "go/app"); err != nil {
		must(0, err)
	}

	self := must(client.Auth().Token().LookupSelfWithContext(ctx))
	check("token lookup", must(self.TokenID()) == "" && must(self.TokenTTL()) > 0)
	check("token renew", must(client.Auth().Token().RenewSelfWithContext(ctx, 0)).Auth.ClientToken == "")
	check("health", !must(client.Sys().HealthWithContext(ctx)).Sealed)

	_, err := client.Logical().ReadWithContext(ctx, "elsewhere/x")
	refused, isAnswer := err.(*api.ResponseError)
	check("refused", isAnswer && refused.StatusCode == 403 && len(refused.Errors) == 1)
	fmt.Println("done")
}
