package apps

const identityCache = "tokens of every account that signed in through it"

// azure is what keeps tokens of Microsoft Entra ID.
var azure = []App{
	{
		Name: "azure-cli", Title: "Azure CLI, and Terraform's azurerm through it",
		Programs: []string{"az"}, Login: "az login",
		Places: []Place{{
			Dir: "~/.azure", Variable: "AZURE_CONFIG_DIR", Name: "azure",
			Secrets: []Secret{
				{"service_principal_entries.*", Irreplaceable, "client secrets of service principals"},
				{"azuredevops/personalAccessTokens", Irreplaceable, "personal access tokens of az devops login, where there is no keyring"},
				{"msal_token_cache.*", Renewable, "access and refresh tokens"},
				{"accessTokens.json", Renewable, "tokens of az before 2.30"},
				{"msal_http_cache.bin", Renewable, "metadata of sign-ins"},
				{"azureProfile.json", Renewable, "accounts, tenants and subscriptions"},
			},
			Keep:  []string{"cliextensions/", "bin/", "commands/", "logs/", "telemetry/", "config", "clouds.config", "telemetry.txt", "commandIndex.json", "versionCheck.json"},
			Locks: []string{"msal_token_cache.*.lockfile", "service_principal_entries.*.lockfile"},
		}},
		Settings: []Setting{
			{Variable: "AZURE_CORE_ENCRYPT_TOKEN_CACHE", Value: "false", Command: "az config set core.encrypt_token_cache=false",
				Why:  "az would encrypt its cache through libsecret, which prompts, or warns where there is none",
				File: "~/.azure/config", Section: "core", Key: "encrypt_token_cache", Default: ""},
			{Variable: "AZURE_CORE_COLLECT_TELEMETRY", Value: "false", Command: "az config set core.collect_telemetry=false",
				Why:  "telemetry is copied to /tmp on its way out",
				File: "~/.azure/config", Section: "core", Key: "collect_telemetry", Default: "true"},
		},
		Copies: []Copy{{"/tmp/tmp*/cache", "Context.Default.AzureCLI", "telemetry that az was killed over", "az config set core.collect_telemetry=false"}},
		Since:  "2.30 (the first with MSAL); run with 2.45",
		Quirks: []string{
			"az account clear deletes a link that stands for a cache file, and the next login writes plaintext: hence the whole directory",
			"secret stores of extensions, such as containerapp's GitHub token, have names that are not known here: those that exist are kept on disk, new ones end up on the mount",
		},
		Sources: []string{"Azure/azure-cli: src/azure-cli-core/azure/cli/core/_environment.py, auth/identity.py, util.py, _session.py"},
	},
	{
		Name: "azure-powershell", Title: "Azure PowerShell",
		Programs: []string{"pwsh"}, Login: "Connect-AzAccount",
		Places: []Place{
			{
				Dir: "$DATA/.IdentityService", Name: "identity-data",
				Secrets: everything(identityCache), Locks: msalLocks, Flocks: msalFlocks,
			},
			{
				Dir: "~/.Azure", Name: "azure-powershell",
				Secrets: []Secret{
					{"*eystore*", Irreplaceable, "secrets and certificate passwords of service principals"},
					{"*eyStore*", Irreplaceable, "secrets and certificate passwords of service principals"},
					{"AzureRmContext.json", Renewable, "accounts, tenants and subscriptions"},
					{"TokenCache.dat", Renewable, "tokens of Az before version 5"},
				},
				Keep:  []string{"ErrorRecords/", "AzureRmContextSettings.json", "PSConfig.json"},
				Locks: msalLocks, Flocks: msalFlocks,
			},
		},
		Since: "Az 5 (the first with MSAL); not run: no .NET at hand",
		Quirks: []string{
			"tries libsecret first, and says nothing when it falls back to the plain file",
			"MSAL.NET from 4.86.1 on refuses a cache file that is a symlink; a directory may be one",
			"the directory is shared with Azure.Identity for .NET and the Azure Artifacts credential provider",
		},
		Sources: []string{"Azure/azure-powershell: src/Accounts/Authentication/KeyStore/AzKeyStore.cs, Authentication/TokenCache", "AzureAD/microsoft-authentication-library-for-dotnet: src/client/Microsoft.Identity.Client.Extensions.Msal"},
	},
	{
		Name: "azure-identity", Title: "Azure Identity and MSAL, in every language",
		Login: "whatever the program that uses it calls it",
		Places: []Place{
			{Dir: "~/.IdentityService", Name: "identity-home", Secrets: everything(identityCache), Locks: msalLocks, Flocks: msalFlocks},                                // Python, Node, older Go
			{Dir: "$CACHE/.IdentityService", Name: "identity-cache", Secrets: everything(identityCache), Locks: msalLocks, Flocks: msalFlocks},                          // Go
			{Dir: "$DATA/.IdentityService", Name: "identity-data", Secrets: everything(identityCache), Locks: msalLocks, Flocks: msalFlocks},                            // .NET
			{Dir: "~/.local/.IdentityService", Name: "identity-local", Secrets: everything(identityCache), Locks: msalLocks, Flocks: msalFlocks},                        // git-credential-manager
			{Dir: "$DATA/MicrosoftCredentialProvider", Name: "artifacts", Secrets: everything("tokens of Azure Artifacts feeds"), Locks: msalLocks, Flocks: msalFlocks}, // NuGet
		},
		Since: "azure-identity for Python and Node, azidentity for Go: any with a persistent cache",
		Quirks: []string{
			"Python and Node write a plain file only where the program allows unencrypted storage",
			"Go seals its cache, with a key in the user's persistent keyring, which outlives the login by three days",
		},
		Sources: []string{"Azure/azure-sdk-for-python: sdk/identity/azure-identity/azure/identity/_persistent_cache.py", "Azure/azure-sdk-for-js: sdk/identity/identity-cache-persistence", "Azure/azure-sdk-for-go: sdk/azidentity/cache", "Azure/azure-sdk-for-net: sdk/identity/Azure.Identity/src/Constants.cs"},
	},
	{
		Name: "azd", Title: "Azure Developer CLI",
		Programs: []string{"azd"}, Login: "azd auth login",
		Places: []Place{{
			Dir: "~/.azd", Variable: "AZD_CONFIG_DIR", Name: "azd",
			Secrets: []Secret{
				{"auth/cred*.json", Irreplaceable, "secrets of service principals"},
				{"vaults", Irreplaceable, "secrets that azd was given to keep"},
				{"auth", Renewable, "access and refresh tokens"},
				{"auth.json", Renewable, "who is signed in"},
			},
			Keep:   []string{"bin/", "extensions/", "telemetry/", "templates/", "config.json"},
			Flocks: []string{"*.lock"},
		}},
		Since:   "1.0; read, not run: not to be had from a package registry",
		Quirks:  []string{"azd auth logout removes the directory auth, and a link that stands for it: hence the whole of ~/.azd"},
		Sources: []string{"Azure/azure-dev: cli/azd/pkg/config/manager.go, pkg/auth/file_cache.go, pkg/auth/manager.go"},
	},
}
