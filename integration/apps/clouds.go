package apps

// clouds other than Microsoft's.
var clouds = []App{
	{
		Name: "gcloud", Title: "Google Cloud CLI",
		Programs: []string{"gcloud"}, Login: "gcloud auth login",
		Places: []Place{{
			Dir: "$CONFIG/gcloud", Variable: "CLOUDSDK_CONFIG", Name: "gcloud",
			Secrets: []Secret{
				{"legacy_credentials/*gserviceaccount.com", Irreplaceable, "keys of service accounts"},
				{"application_default_credentials.json", Renewable, "application default credentials"},
				{"credentials.db*", Renewable, "refresh tokens"},
				{"access_tokens.db*", Renewable, "access tokens"},
				{"legacy_credentials", Renewable, "refresh tokens, for other tools"},
			},
			Keep: []string{"logs/", "configurations/", "active_config", "virtenv/", "surface_data/"},
		}},
		Settings: []Setting{{Variable: "CLOUDSDK_CORE_DISABLE_FILE_LOGGING", Value: "true", Command: "gcloud config set core/disable_file_logging true",
			Why:  "log files, of what was run and answered, stay on disk",
			File: "$CONFIG/gcloud/configurations/config_default", Section: "core", Key: "disable_file_logging", Default: "false"}},
		Since:   "any; its files seen with 528, no login run: no package registry has it",
		Quirks:  []string{"its databases are SQLite with a rollback journal, and are locked with POSIX locks"},
		Sources: []string{"google-cloud-sdk: lib/googlecloudsdk/core/config.py, core/credentials/creds.py"},
	},
	{
		Name: "aws", Title: "AWS CLI and SDKs: caches of single sign-on and assumed roles",
		Programs: []string{"aws"}, Login: "aws sso login",
		Places: []Place{
			{Dir: "~/.aws/sso/cache", Name: "aws-sso", Secrets: everything("tokens of single sign-on")},
			{Dir: "~/.aws/cli/cache", Name: "aws-cli", Secrets: everything("temporary keys of assumed roles")},
			{Dir: "~/.aws/login/cache", Variable: "AWS_LOGIN_CACHE_DIRECTORY", Name: "aws-login", Secrets: everything("tokens of aws login")},
		},
		Since:   "any with single sign-on; run with 2.9",
		Quirks:  []string{"botocore replaces its files by renaming, and so a link that stands for one", "aws sso logout leaves what the CLI registered as"},
		Sources: []string{"boto/botocore: botocore/credentials.py, botocore/utils.py", "aws/aws-cli: awscli/customizations/sso/utils.py"},
	},
	{
		Name: "aws-credentials", Title: "AWS: long-lived access keys",
		Programs: []string{"aws"},
		Places: []Place{{
			Dir: "~/.aws", File: "credentials", Variable: "AWS_SHARED_CREDENTIALS_FILE", Name: "aws-credentials",
			Secrets: []Secret{{"credentials", Irreplaceable, "access keys, which AWS shows only once"}},
		}},
		Since:   "any; run with 2.9",
		Sources: []string{"boto/botocore: botocore/configprovider.py"},
	},
}
