package apps

// git is what keeps passwords and tokens for git.
var git = []App{
	{
		Name: "git-credential-manager", Title: "Git Credential Manager: credential store and both MSAL caches",
		Programs: []string{"git-credential-manager", "git-credential-manager-core"}, Login: "the next git fetch",
		Places: []Place{
			{Dir: "~/.local/.IdentityService", Name: "identity-local", Secrets: everything(identityCache), Locks: msalLocks, Flocks: msalFlocks},
			{
				Dir: "~/.gcm", Variable: "GCM_PLAINTEXT_STORE_PATH", Names: "store", Name: "gcm",
				Secrets: []Secret{
					{"msal", Renewable, "tokens of applications"},
					{"store", Renewable, "tokens, and passwords that were typed in"},
				},
				Locks: msalLocks, Flocks: msalFlocks,
			},
		},
		Settings: []Setting{{Variable: "GCM_CREDENTIAL_STORE", Value: "plaintext", Command: "git config --global credential.credentialStore plaintext",
			Why:  "only the store plaintext keeps files, and those are on the mount now",
			File: "~/.gitconfig", Section: "credential", Key: "credentialStore", Default: "not set"}},
		Since: "2.0; not run: no .NET at hand",
		Quirks: []string{
			"its MSAL caches ignore the choice of credential store, and no variable moves them",
			"with GCM_PLAINTEXT_STORE_PATH or credential.plaintextStorePath the store is elsewhere: unset them",
		},
		Sources: []string{"git-ecosystem/git-credential-manager: src/shared/Core/Authentication/MicrosoftAuthentication.cs, CredentialStore.cs, PlaintextCredentialStore.cs, Constants.cs"},
	},
	{
		Name: "gh", Title: "GitHub CLI",
		Programs: []string{"gh"}, Login: "gh auth login --insecure-storage",
		Places: []Place{{
			Dir: "$CONFIG/gh", Variable: "GH_CONFIG_DIR", Name: "gh",
			Secrets: []Secret{{"hosts.yml", Renewable, "tokens; a personal access token comes back only from where it was copied"}},
			Keep:    []string{"config.yml"},
		}},
		Since:   "2.0; run with 2.23",
		Quirks:  []string{"without --insecure-storage it asks the keyring, for three seconds where there is none, and writes the file then"},
		Sources: []string{"cli/go-gh: pkg/config/config.go", "cli/cli: internal/config"},
	},
}
