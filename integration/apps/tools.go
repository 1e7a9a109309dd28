package apps

// tools that sign in to registries and services.
var tools = []App{
	{
		Name: "docker", Title: "Docker: registry logins",
		Programs: []string{"docker"}, Login: "docker login",
		Places: []Place{{
			Dir: "~/.docker", Variable: "DOCKER_CONFIG", Name: "docker",
			Secrets: []Secret{{"config.json", Mixed, "registry passwords in base64, with settings such as proxies and the current context"}},
			Marks:   []string{`"auth"`, `"identitytoken"`, `"registrytoken"`},
			Keep:    []string{"cli-plugins/", "contexts/", "buildx/", "trust/", "scout/"},
		}},
		Since:   "any; run with 20.10 and 28.2",
		Quirks:  []string{"writes beside the file and renames: a link to another filesystem fails with EXDEV, hence the directory"},
		Sources: []string{"docker/cli: cli/config/configfile/file.go"},
	},
	{
		Name: "npm", Title: "npm: the user's npmrc",
		Programs: []string{"npm"}, Login: "npm login",
		Places: []Place{{
			Dir: "~", File: ".npmrc", Variable: "NPM_CONFIG_USERCONFIG", Name: "npm",
			Marks:   []string{"_authToken", "_auth", "_password"},
			Secrets: []Secret{{".npmrc", Mixed, "registry tokens, which are shown only once, with settings"}},
		}},
		Copies:  []Copy{{"~/.npm/_logs/*.log", "_authToken=", "npm logs its command line, tokens and all", "edit the file instead of npm config set, or give it --logs-max=0"}},
		Since:   "any; run with 9.2 and 11.19",
		Sources: []string{"npm/cli: workspaces/config/lib/index.js"},
	},
	{
		Name: "terraform", Title: "Terraform: tokens of terraform login",
		Programs: []string{"terraform", "tofu"}, Login: "terraform login",
		Places: []Place{{
			Dir: "~/.terraform.d", Name: "terraform",
			Secrets: []Secret{{"credentials.tfrc.json", Renewable, "API tokens of Terraform registries"}},
			Keep:    []string{"plugins/", "plugin-cache/", "checkpoint_cache", "checkpoint_signature"},
		}},
		Since:   "any; its files seen with 1.11, no login run",
		Quirks:  []string{"replaces the file by renaming, and so a link that stands for it"},
		Sources: []string{"hashicorp/terraform: internal/command/cliconfig/credentials.go"},
	},
	{
		Name: "vscode-cli", Title: "VS Code's command line: tunnels",
		Programs: []string{"code", "code-insiders"}, Login: "code tunnel user login",
		Places: []Place{{
			Dir: "~/.vscode/cli", Variable: "VSCODE_CLI_DATA_DIR", Name: "vscode-cli",
			Secrets: []Secret{{"token.json", Renewable, "the token of a tunnel, sealed with a key that follows from the host's name"}},
			Keep:    []string{"servers/", "cli/", "serve-web/", "code_tunnel.json", "license_consent.json", "tunnel-service.log"},
			Flocks:  []string{"tunnel-*.lock", "forwarding-*.lock"},
		}},
		Settings: []Setting{{Variable: "VSCODE_CLI_USE_FILE_KEYCHAIN", Value: "1", Why: "without it the token goes to the desktop's keyring where there is one"}},
		Since:    "1.75; read, not run",
		Sources:  []string{"microsoft/vscode: cli/src/auth.rs, cli/src/state.rs"},
	},
}
