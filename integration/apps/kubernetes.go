package apps

// kubernetes: what signs in to clusters comes before kubectl, whose directory
// contains theirs.
var kubernetes = []App{
	{
		Name: "kubelogin", Title: "kubelogin, of Azure and of int128",
		Programs: []string{"kubelogin", "kubectl-oidc_login"}, Login: "the next kubectl command",
		Places: []Place{{
			Dir: "~/.kube/cache", Variable: "KUBECACHEDIR", Name: "kube-cache",
			Secrets: []Secret{
				{"kubelogin", Renewable, "who is signed in, and tokens, of Azure's kubelogin"},
				{"oidc-login", Renewable, "ID and refresh tokens of int128's kubelogin"},
			},
			Keep: []string{"discovery/", "http/"},
		}, {
			Dir: "$CACHE/.IdentityService", Name: "identity-cache", Secrets: everything(identityCache), Locks: msalLocks, Flocks: msalFlocks,
		}, { // up to azidentity/cache 0.3
			Dir: "~/.IdentityService", Name: "identity-home", Secrets: everything(identityCache), Locks: msalLocks, Flocks: msalFlocks,
		}},
		Since: "Azure/kubelogin 0.1; int128/kubelogin 1.28 (token cache in ~/.kube/cache/oidc-login); run with 0.2.18 and 1.36.3",
		Quirks: []string{
			"int128's holds a lock while it waits for the browser, and its clean command removes the directory: hence the one above it",
			"Azure's has sealed its tokens already, with a key in the user's persistent keyring, which outlives the login by three days",
		},
		Sources: []string{"Azure/kubelogin: pkg/internal/token/options.go", "int128/kubelogin: pkg/tokencache/repository/repository.go"},
	},
	{
		Name: "kubectl", Title: "kubectl: the kubeconfig",
		Programs: []string{"kubectl"}, Login: "the next kubectl command, for what a plugin signs in",
		Places: []Place{{
			Dir: "~/.kube", Variable: "KUBECONFIG", Names: "config", Name: "kube",
			Secrets: []Secret{
				{"config", Mixed, "clusters, contexts and users, with tokens and client certificates"},
				{"gke_gcloud_auth_plugin_cache", Renewable, "access tokens for Google's clusters"},
			},
			Marks: []string{"token", "client-key-data", "password", "id-token", "access-token"},
			Keep:  []string{"cache/"},
			Locks: []string{"config.lock"},
		}},
		Since:   "any; run with 1.32 and 1.33",
		Quirks:  []string{"a lock that a killed kubectl left makes every change fail at once, for ever: tokenfs doctor finds it"},
		Sources: []string{"kubernetes/client-go: tools/clientcmd/loader.go", "kubernetes/cloud-provider-gcp: cmd/gke-gcloud-auth-plugin"},
	},
}
